"""Tracking against a real MLflow store: what a run holds, whoever goes on with it, and the versions and weights that
come of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from infra.mlflow import client
from infra.mlflow.registry import register, set_champion
from infra.mlflow.tracking import resume_run, start_run
from tests.paths import ROOT
from tests.support.mlflow_store import config, here, manifest, mlflow, steps, store

__all__ = ["here", "mlflow", "store"]


@pytest.mark.integration
def test_two_first_commands_at_once_make_one_store(here: Path) -> None:
    """Unlocked, both migrate the new file: "duplicate column name"."""
    uri, go = f"sqlite:///{here}/new.db", here / "go"
    code = (
        "import sys, time; from pathlib import Path; from infra.mlflow.client import connect, import_mlflow\n"
        "uri, ready, go = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]); import_mlflow(uri); ready.touch()\n"
        "while not go.exists(): time.sleep(0.01)\n"
        "print(len(connect(uri).search_experiments()))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, uri]
    both = [
        subprocess.Popen(
            [*command, str(here / f"ready{one}"), str(go)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for one in range(2)
    ]
    deadline = time.monotonic() + 120
    while not all((here / f"ready{one}").exists() for one in range(2)) and time.monotonic() < deadline:
        time.sleep(0.05)
    go.touch()
    assert [(one.communicate(timeout=120)[0], one.returncode) for one in both] == [("1\n", 0), ("1\n", 0)]


@pytest.mark.integration
def test_a_run_holds_parameters_metrics_dataset_artifacts_and_status(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("whole"), here / "tracking")
    for step in range(1, 121):
        tracker.log_metrics({"loss": 1 / step, "learning_rate": 1e-3}, step)
    tracker.log_params({"dtype": "float32"})
    tracker.log_dataset(
        {
            "source": "bfcl",
            "fingerprint": "sha256:" + "ab" * 32,
            "splits": {"train": {"rows": 9}},
            "test_fingerprint": "sha256:cd",
        }
    )
    (here / "eval").mkdir()
    (here / "eval/metrics.json").write_text('{"exact_match": 0.5}')
    tracker.log_artifacts(here / "eval")
    tracker.finish()
    run = mlflow.get_run(tracker.run_id)
    assert steps(mlflow, tracker.run_id, "loss") == list(range(1, 121))
    assert (run.info.status, run.info.run_name, run.data.params["train.lora.rank"], run.data.params["dtype"]) == (
        "FINISHED",
        "whole",
        "16",
        "float32",
    )
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest, json.loads(dataset.profile)["splits"]) == (
        "bfcl",
        ("ab" * 32)[:36],
        {"train": {"rows": 9}},
    )
    assert [one.path for one in mlflow.list_artifacts(tracker.run_id, "eval")] == ["eval/metrics.json"]
    assert run.info.artifact_uri.startswith((here / "stores/mlartifacts").as_uri())
    assert {path.name for path in here.iterdir()} == {"stores", "eval", "tracking"}  # no mlruns


@pytest.mark.integration
def test_what_an_earlier_version_tracked_in_build_is_found_with_its_artifacts(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = (
        "import sys; from pathlib import Path; from mlflow.tracking import MlflowClient; import pathlib\n"
        "Path('build').mkdir(); at = MlflowClient(f'sqlite:///{Path.cwd()}/build/mlflow.db')\n"
        "made = at.create_experiment('x', artifact_location=(Path.cwd() / 'build/mlartifacts').as_uri())\n"
        "run = at.create_run(made).info.run_id; at.log_text(run, 'kept', 'note.txt'); print(run)"
    )
    run_id = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True).stdout.strip()
    found = client.connect(client.tracking_uri())
    assert client.tracking_uri() == f"sqlite:///{here}/stores/mlflow.db" and not (here / "build/mlflow.db").exists()
    assert found.get_run(run_id).info.artifact_uri.startswith((here / "stores/mlartifacts").as_uri())
    assert Path(found.download_artifacts(run_id, "note.txt")).read_text() == "kept"


@pytest.mark.integration
def test_a_killed_training_goes_on_as_the_same_run(mlflow: Any, here: Path) -> None:
    first = start_run(config("killed"), here / "tracking")
    first.log_metrics({"loss": 3.0}, 1)
    first.log_metrics({"loss": 2.0}, 2)  # on disk only: the next delivery is seconds away
    second = start_run(config("killed"), here / "tracking")
    second.log_dataset({"source": "bfcl", "fingerprint": "sha256:ab"})
    second.log_metrics({"loss": 1.0}, 3)
    second.finish()
    assert second.run_id == first.run_id is not None
    assert steps(mlflow, first.run_id, "loss") == [1, 2, 3]


@pytest.mark.integration
def test_where_a_model_comes_from_and_goes_to_are_tags(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("lineage"), here / "tracking")
    tracker.log_tags({"tunegate.base_digest": "sha256:ab"})
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.log_tags({"tunegate.release": "lineage@sha256:cd"})
    tracker.finish()
    tags = mlflow.get_run(tracker.run_id).data.tags
    assert (tags["tunegate.base_digest"], tags["tunegate.release"]) == ("sha256:ab", "lineage@sha256:cd")


@pytest.mark.integration
def test_another_config_and_a_finished_run_begin_anew(mlflow: Any, here: Path) -> None:
    found = []
    for rate, finish in ((1e-3, False), (1e-4, True), (1e-4, True)):
        tracker = start_run(config("anew", learning_rate=rate), here / "tracking")
        tracker.log_metrics({"loss": 1.0}, 1)
        if finish:
            tracker.finish()
        found.append(tracker.run_id)
    assert len(set(found)) == 3
    assert [steps(mlflow, run_id, "loss") for run_id in found] == [[1], [1], [1]]


@pytest.mark.integration
def test_evaluation_adds_to_the_run_that_training_began(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("adds"), here / "tracking")
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    for folder in (here / "tracking", here / "another-machine"):
        later = resume_run(tracker.run_id, folder)
        assert later.run_id == tracker.run_id
        later.log_metrics({"exact_match": 0.5}, 1)
        later.finish()
    assert steps(mlflow, tracker.run_id, "exact_match") == [1, 1]


@pytest.mark.integration
def test_a_line_that_mlflow_refuses_does_not_dam_those_after_it(
    mlflow: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = start_run(config("dam"), here / "tracking")
    tracker.log_params({"name": "another"})  # it is "dam" already, and parameters cannot change
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert steps(mlflow, tracker.run_id, "loss") == [1]
    assert "params given up" in capsys.readouterr().err


@pytest.mark.integration
def test_what_is_logged_before_the_first_metrics_comes_with_them(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("before"), here / "tracking")
    tracker.log_dataset({"source": "bfcl", "fingerprint": "sha256:ab"})
    assert not (here / "tracking").exists()
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert mlflow.get_run(tracker.run_id).inputs.dataset_inputs[0].dataset.digest == "ab"


@pytest.mark.integration
def test_register_makes_one_version_for_a_digest(mlflow: Any, here: Path) -> None:
    one, two = manifest("registered", "1"), manifest("registered", "2")
    assert [register(which, here / "releases/x", None) for which in (one, one, two)] == ["1", "1", "2"]
    version = mlflow.get_model_version_by_alias("registered", "candidate")
    assert (str(version.version), version.tags["digest"], version.tags["git_revision"]) == ("2", two.digest, "abc123")
    assert version.source == (here / "releases/x").as_uri()


@pytest.mark.integration
def test_an_environment_has_one_champion(mlflow: Any, here: Path) -> None:
    first, second, elsewhere = (
        manifest("calls-one", "3"),
        manifest("calls-two", "4"),
        manifest("calls-three", "5", "staging"),
    )
    for which in (first, second, elsewhere):
        register(which, here, None)
        set_champion(which)
    champions = {
        model.name: str(model.aliases.get("champion"))
        for model in mlflow.search_registered_models()
        if model.name.startswith("calls-")
    }
    assert champions == {"calls-one": "None", "calls-two": "1", "calls-three": "1"}
    set_champion(first)
    assert mlflow.get_model_version_by_alias("calls-one", "champion").tags["digest"] == first.digest
    assert "champion" not in mlflow.get_registered_model("calls-two").aliases


@pytest.mark.integration
def test_champion_of_what_was_never_registered_is_a_warning(
    mlflow: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_champion(manifest("never", "6"))
    assert f"no registered version has digest sha256:{'6' * 64}" in capsys.readouterr().err


@pytest.mark.integration
def test_base_weights_come_from_a_run_and_from_a_registered_version(mlflow: Any, here: Path) -> None:
    (here / "weights").mkdir()
    (here / "weights/config.json").write_text("{}")
    tracker = start_run(config("weights"), here / "tracking")
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.log_artifacts(here / "weights")
    tracker.finish()
    register(manifest("weights", "9"), here / "weights", tracker.run_id)
    for index, uri in enumerate((f"runs:/{tracker.run_id}/weights", "models:/weights/1")):
        assert [file.name for file in client.download_model(uri, here / f"downloads-{index}").rglob("*.json")] == [
            "config.json"
        ]


@pytest.mark.integration
@pytest.mark.parametrize("uri", [f"runs:/{'0' * 32}/weights", "models:/nobody/1"])
def test_a_base_that_mlflow_does_not_know_is_an_input_error(mlflow: Any, here: Path, uri: str) -> None:
    with pytest.raises(InputError, match=f"base.mlflow: {uri}.*expected"):
        client.download_model(uri, here / "downloads")
