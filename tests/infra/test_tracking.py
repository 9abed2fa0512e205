"""Tracking against a real MLflow store; and against none, which costs a training nothing but a warning."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.data import Data
from configs.release import Manifest
from configs.schema import RunConfig, Serving
from configs.training import Train
from configs.weights import BaseWeights
from infra import mlflow_client, tracking
from infra.outbox import Outbox
from infra.tracking import register, resume_run, set_champion, start_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place, where nothing was warned of yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow_client, "WARNED", set())
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 3600.0)
    return tmp_path


@pytest.fixture
def mlflow(here: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the store that MLFLOW_TRACKING_URI names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return mlflow_client.connect(store)


@pytest.fixture
def down(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server whose port is closed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture
def hung(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes the connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        yield uri


def config(name: str = "demo", **train: Any) -> RunConfig:
    settings = Train(max_steps=train.pop("max_steps", 3), **train)
    rest: dict[str, Any] = {"base": BaseWeights(package="x"), "data": Data(source="bfcl"), "gate": "gate.yaml", "experiment": f"tests-{name}"}
    return RunConfig(name=name, task="causal-lm", train=settings, **rest)


def manifest(name: str, digit: str, production: str = "local") -> Manifest:
    facts: dict[str, Any] = {"files": [], "base": {}, "data": {}, "quantization": {}, "versions": {}, "created": "2026-11-24", "git_revision": "abc123"}
    return Manifest(name=name, digest=f"sha256:{digit * 64}", task="causal-lm", serving=Serving(), config={"production": production}, **facts)


def steps(client: Any, run_id: str | None, metric: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, metric)]


@pytest.mark.unit
def test_a_training_that_logs_nothing_leaves_nothing(here: Path) -> None:
    tracker = start_run(config(), here / "tracking")
    tracker.log_dataset({"source": "bfcl", "fingerprint": "sha256:ab"})
    tracker.finish()
    assert tracker.run_id is None
    assert list(here.iterdir()) == []


@pytest.mark.unit
def test_flatten_names_every_leaf() -> None:
    flat = tracking.flatten(config().model_dump(mode="json"))
    assert (flat["train.lora.rank"], flat["name"], flat["data.files"]) == ("16", "demo", "[]")
    assert not any(value.startswith("{") for value in flat.values())


@pytest.mark.integration
def test_a_run_holds_parameters_metrics_dataset_artifacts_and_status(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("whole"), here / "tracking")
    for step in range(1, 121):
        tracker.log_metrics({"loss": 1 / step, "learning_rate": 1e-3}, step)
    tracker.log_params({"dtype": "float32"})
    tracker.log_dataset({"source": "bfcl", "fingerprint": "sha256:" + "ab" * 32, "splits": {"train": {"rows": 9}}, "test_fingerprint": "sha256:cd"})
    (here / "eval").mkdir()
    (here / "eval/metrics.json").write_text('{"exact_match": 0.5}')
    tracker.log_artifacts(here / "eval")
    tracker.finish()
    run = mlflow.get_run(tracker.run_id)
    assert steps(mlflow, tracker.run_id, "loss") == list(range(1, 121))
    assert (run.info.status, run.info.run_name, run.data.params["train.lora.rank"], run.data.params["dtype"]) == ("FINISHED", "whole", "16", "float32")
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest, json.loads(dataset.profile)["splits"]) == ("bfcl", ("ab" * 32)[:36], {"train": {"rows": 9}})
    assert [one.path for one in mlflow.list_artifacts(tracker.run_id, "eval")] == ["eval/metrics.json"]
    assert run.info.artifact_uri.startswith((here / "build/mlartifacts").as_uri())
    assert {path.name for path in here.iterdir()} == {"build", "eval", "tracking"}  # no mlruns


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


@pytest.mark.unit
def test_steps_that_a_resumed_training_repeats_are_logged_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "deliver", lambda outbox: None)
    for steps in (range(1, 8), range(5, 10)):  # killed after step 7, and its checkpoint is of step 4
        tracker = start_run(config("repeats"), here / "tracking")
        for step in steps:
            tracker.log_metrics({"loss": 1 / step} | ({"eval_loss": 0.5} if step == 5 and steps[0] == 5 else {}), step)
    logged = [(line["step"], *line["metrics"]) for line, _ in tracker.outbox.lines() if "metrics" in line]
    assert logged == [*((step, "loss") for step in range(1, 8)), (5, "eval_loss"), (8, "loss"), (9, "loss")]


@pytest.mark.unit
def test_the_machine_is_sampled_while_a_run_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "deliver", lambda outbox: None)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 0.01)
    samples: list[tuple[int, float]] = []
    for _ in range(2):  # the second goes on where the first was killed
        tracker = start_run(config("sampled"), here / "tracking")
        tracker.log_metrics({"loss": 1.0}, 1)
        deadline, wanted = time.monotonic() + 30, len(samples) + 2
        while len(samples) < wanted and time.monotonic() < deadline:
            found = [line for line, _ in tracker.outbox.lines() if "metrics" in line and "loss" not in line["metrics"]]
            samples = [(line["step"], line["metrics"]["system/process_memory_usage_megabytes"]) for line in found]
        tracker.ended.set()
    assert [step for step, _ in samples[:4]] == [0, 1, 2, 3] and all(memory > 1 for _, memory in samples)


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
def test_a_line_that_mlflow_refuses_does_not_dam_those_after_it(mlflow: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = start_run(config("dam"), here / "tracking")
    tracker.log_params({"name": "another"})  # it is "dam" already, and parameters cannot change
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert steps(mlflow, tracker.run_id, "loss") == [1]
    assert "params given up" in capsys.readouterr().err


@pytest.mark.integration
def test_mlflow_down_costs_a_training_nothing(down: str, store: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = start_run(config("down"), here / "tracking")
    began = time.monotonic()
    for step in range(1, 501):
        tracker.log_metrics({"loss": 1 / step}, step)
    tracker.finish()
    assert time.monotonic() - began < 10
    assert tracker.run_id is None
    said = capsys.readouterr()
    assert (said.out, said.err.count("warning:")) == ("", 1)
    assert "Connection refused" in said.err and "metrics.jsonl" in said.err
    assert [line["step"] for line, _ in Outbox(here / "tracking").lines() if "metrics" in line] == list(range(1, 501))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    later = resume_run(None, here / "tracking")
    later.log_metrics({"exact_match": 0.5}, 0)
    assert steps(mlflow_client.connect(store), later.run_id, "loss") == list(range(1, 501))


@pytest.mark.integration
def test_a_run_that_mlflow_has_not_taken_has_not_the_last_ones_id(mlflow: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = start_run(config("taken"), here / "tracking")
    taken.log_metrics({"loss": 1.0}, 1)
    assert taken.run_id is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    lost = start_run(config("taken", max_steps=4), here / "tracking")
    lost.log_metrics({"loss": 1.0}, 1)
    assert lost.run_id is None


@pytest.mark.integration
def test_a_database_that_cannot_be_opened_holds_nothing_up(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """MLflow itself tries a database for 100 seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.2)
    tracker, began = start_run(config("database"), here / "tracking"), time.monotonic()
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert time.monotonic() - began < 5
    assert tracker.run_id is None
    assert "warning: MLflow" in capsys.readouterr().err


@pytest.mark.integration
def test_what_is_logged_before_the_first_metrics_comes_with_them(mlflow: Any, here: Path) -> None:
    tracker = start_run(config("before"), here / "tracking")
    tracker.log_dataset({"source": "bfcl", "fingerprint": "sha256:ab"})
    assert not (here / "tracking").exists()
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert mlflow.get_run(tracker.run_id).inputs.dataset_inputs[0].dataset.digest == "ab"


@pytest.mark.integration
def test_a_server_that_never_answers_holds_nothing_up(hung: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.2)
    tracker = start_run(config("hung"), here / "tracking")
    began = time.monotonic()
    for step in range(1, 200):
        tracker.log_metrics({"loss": 1.0}, step)
    tracker.finish()
    assert register(manifest("hung", "8"), here, None) is None
    assert time.monotonic() - began < 2
    assert len(list(tracker.outbox.lines())) == 2 + 199 + 1
    assert capsys.readouterr().err.count("no answer yet") == 2


@pytest.mark.unit
def test_a_slow_server_gets_a_twentieth_of_the_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Outbox] = []

    def slow(outbox: Outbox) -> None:
        calls.append(outbox)
        time.sleep(0.05)

    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
    monkeypatch.setattr(tracking, "deliver", slow)
    tracker, began = start_run(config("slow"), here / "tracking"), time.monotonic()
    while time.monotonic() - began < 1.5:
        tracker.log_metrics({"loss": 1.0}, 1)
        time.sleep(0.001)
    assert 1 <= len(calls) <= 2


@pytest.mark.integration
def test_register_makes_one_version_for_a_digest(mlflow: Any, here: Path) -> None:
    one, two = manifest("registered", "1"), manifest("registered", "2")
    assert [register(which, here / "releases/x", None) for which in (one, one, two)] == ["1", "1", "2"]
    version = mlflow.get_model_version_by_alias("registered", "candidate")
    assert (str(version.version), version.tags["digest"], version.tags["git_revision"]) == ("2", two.digest, "abc123")
    assert version.source == (here / "releases/x").as_uri()


@pytest.mark.integration
def test_an_environment_has_one_champion(mlflow: Any, here: Path) -> None:
    first, second, elsewhere = manifest("calls-one", "3"), manifest("calls-two", "4"), manifest("calls-three", "5", "staging")
    for which in (first, second, elsewhere):
        register(which, here, None)
        set_champion(which)
    champions = {model.name: str(model.aliases.get("champion")) for model in mlflow.search_registered_models() if model.name.startswith("calls-")}
    assert champions == {"calls-one": "None", "calls-two": "1", "calls-three": "1"}
    set_champion(first)
    assert mlflow.get_model_version_by_alias("calls-one", "champion").tags["digest"] == first.digest
    assert "champion" not in mlflow.get_registered_model("calls-two").aliases


@pytest.mark.integration
def test_champion_of_what_was_never_registered_is_a_warning(mlflow: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_champion(manifest("never", "6"))
    assert f"no registered version has digest sha256:{'6' * 64}" in capsys.readouterr().err


@pytest.mark.integration
def test_registry_down_is_a_warning(down: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(manifest("x", "7"), here, None) is None
    set_champion(manifest("x", "7"))
    assert capsys.readouterr().err.count("Connection refused") == 2
