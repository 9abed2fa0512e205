"""The stores' commands: the registry is told of the run that trained a release, however late MLflow took it; prune only
says unless told to act."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.lineage.prune
import infra.lineage.trace
import tunegate
from configs.paths import RunPaths
from infra.commands.releases import trained_by
from infra.mlflow.outbox import Outbox

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noted(run_id: str | None) -> RunPaths:
    paths = RunPaths.of("demo")
    paths.trained.mkdir(parents=True)
    (paths.trained / "training.json").write_text(json.dumps({"tracking_run_id": run_id}))
    return paths


def test_the_run_that_training_noted_is_the_releases() -> None:
    assert trained_by(noted("run-1")) == "run-1"


def test_a_run_that_mlflow_took_only_after_training_is_found() -> None:
    paths = noted(None)
    assert trained_by(paths) is None
    outbox = Outbox(paths.root / "tracking")
    outbox.append({"status": "FINISHED"})
    outbox.taken(1, "run-2")
    assert trained_by(paths) == "run-2"


def test_a_release_without_a_training_here_has_no_run() -> None:
    assert trained_by(RunPaths.of("never")) is None


@pytest.mark.parametrize(
    ("flags", "asked"), [((), (False, False)), (("--remote",), (False, True)), (("--yes", "--remote"), (True, True))]
)
def test_prune_acts_only_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], asked: tuple[bool, bool]
) -> None:
    calls: list[tuple[bool, bool]] = []

    def prune(uses: Any, act: bool, remote: bool) -> dict[str, Any]:
        assert uses() == []
        calls.append((act, remote))
        return {
            "removed" if act else "would_remove": [],
            "bytes": 0,
            "kept": {"calls@" + "a" * 12: "local: serves (blue)"},
        }

    monkeypatch.setattr(infra.lineage.prune, "prune", prune)
    found = CliRunner().invoke(tunegate.app, ["releases", "prune", *flags])
    assert (found.exit_code, calls) == (0, [asked]) and "local: serves (blue)" in found.stdout


def test_the_list_is_given_what_the_environments_use(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = f"calls@sha256:{'a' * 64}"
    Path("configs/deploy").mkdir(parents=True)
    Path("configs/deploy/local.yaml").write_text(f"name: local\nmodel: m\nrelease: {reference}\ngate: null\n")
    monkeypatch.setattr(
        infra.lineage.trace,
        "catalogue",
        lambda uses: [{"uses": [[use.environment, use.reference, use.how] for use in uses]}],
    )
    found = CliRunner().invoke(tunegate.app, ["releases", "list", "--json"])
    assert json.loads(found.stdout) == [{"uses": [["local", reference, "pinned"]]}]
