"""Figures told beside MLflow; a package that is not there is named before anything is trained."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import InputError
from configs.run.config import RunConfig
from infra.reporters import Reporters
from tests.support.run_yaml import changed

pytestmark = pytest.mark.unit


def tracked() -> tuple[Any, list[tuple[dict[str, float], int]]]:
    told: list[tuple[dict[str, float], int]] = []
    return SimpleNamespace(run_id="r", log_metrics=lambda metrics, step: told.append((metrics, step))), told


def config(*names: str) -> RunConfig:
    return RunConfig.model_validate(changed("train.report_to", list(names)))


def test_with_none_the_tracker_is_told_alone(tmp_path: Path) -> None:
    tracker, told = tracked()
    reporters = Reporters(tracker, config(), tmp_path)
    reporters.log_metrics({"loss": 1.0}, 3)
    reporters.close()
    assert told == [({"loss": 1.0}, 3)] and reporters.run_id == "r" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_installed_is_named_with_what_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.reporters.find_spec", lambda found: None)
    with pytest.raises(InputError, match=f"{name} is not installed\n.*pip install {name}"):
        Reporters(tracked()[0], config(name), tmp_path)


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is no part of the locked environment")
def test_tensorboard_reads_what_was_told(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker, told = tracked()
    reporters = Reporters(tracker, config("tensorboard"), tmp_path)
    for step in (1, 2):
        reporters.log_metrics({"loss": 1 / step}, step)
    reporters.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)] and len(told) == 2
