"""Sweeps over real trainings of tiny models: the better learning rate is found, a kill costs nothing, the best config
trains."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from configs.loader import load
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.mlflow.outbox import Outbox
from tests.paths import ROOT
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.search.report import report
from train.search.study import finished
from train.search.wave import read_course, read_outcome, read_trial, state_trial
from train.sweep import sweep

pytestmark = pytest.mark.integration
RATES = {"train.learning_rate": {"choices": [1e-7, 0.01]}, "train.lora.rank": {"choices": [2, 4]}}
KILLED = """
import sys, time
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.sweep import sweep
class Run:
    run_id = None
    def __init__(self, name): self.name = name
    def log_metrics(self, metrics, step): print(self.name, step, "eval_loss" in metrics, flush=True); time.sleep(0.05)
    def finish(self, status="FINISHED"): print(self.name, status, flush=True)
config = RunConfig.model_validate_json(sys.argv[1])
sweep(config, config.sweep, RunPaths.of(config.name), lambda config, folder, name, parent: Run(name))
"""
WAVES = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run under nohup heeds none
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.mlflow.tracking import start_run
from train.sweep import sweep
config = RunConfig.model_validate_json(sys.argv[1])
sweep(config, config.sweep, RunPaths.of(config.name), start_run)
"""


class Silent:
    run_id = None

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def finish(self, status: str = "FINISHED") -> None: ...


def prepared(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    return paths


def swept(config: RunConfig) -> Any:
    assert config.sweep
    return sweep(config, config.sweep, RunPaths.of(config.name), lambda *_: Silent())


def outcomes(study: Any) -> list[tuple[str, float | None, str]]:
    return sorted((trial.state.name, trial.value, str(sorted(trial.params.items()))) for trial in finished(study))


def kill_in_the_middle(config: RunConfig) -> None:
    """kill -9 once the second trial has passed its first evaluation."""
    command, begun = [sys.executable, "-c", KILLED, config.model_dump_json()], set[str]()
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            name, _, evaluated = line.rpartition(" ")
            if "trial" in name and evaluated == "True\n":
                begun.add(name.rpartition(" ")[0])
            if len(begun) == 2 and evaluated == "False\n":
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_sweep_ends_as_if_it_had_not_been_and_its_best_config_trains(
    classifier: Callable[..., RunConfig],
) -> None:
    section = {
        "train": {"max_steps": 12, "eval_every_steps": 4, "dtype": "float32"},
        "sweep": {"parameters": RATES, "sampler": "grid", "pruner": "none"},
    }
    whole, config = (classifier(name=name, **section) for name in ("whole", "killed"))
    prepared(whole)
    paths = prepared(config)
    card = (paths.data / "data_card.json").stat().st_mtime_ns
    straight = swept(whole)
    kill_in_the_middle(config)
    assert not (paths.root / "sweep/best.yaml").exists()
    resumed = swept(config)
    assert len(finished(resumed)) == 4 and outcomes(resumed) == outcomes(straight), (
        "trials, parameters and losses are those of a sweep that ran through"
    )
    assert (paths.data / "data_card.json").stat().st_mtime_ns == card
    assert resumed.best_params["train.learning_rate"] == 0.01

    Path("gate.yaml").touch()
    with Path("run.yaml").open("w") as stream:
        YAML(typ="safe").dump(config.model_dump(mode="json", exclude_unset=True), stream)
    figures = report(resumed, Path("run.yaml"), [], paths.root / "sweep")
    assert figures["complete"] == 4
    best = load(paths.root / "sweep/best.yaml", RunConfig)
    record = finetune(best, paths, Silent())
    assert record["best_validation_loss"] == pytest.approx(resumed.best_value), "it is the training that won"


def children(pid: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sweep_and_kill(config: RunConfig, how: str) -> None:
    """In a process of its own, killed once the second wave has passed an evaluation; nothing of it is left."""
    second = RunPaths.of(config.name).root / "sweep/trial-2/course.json"
    command = [sys.executable, "-c", WAVES, config.model_dump_json()]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        until(second.exists)
        workers = children(process.pid)
        assert len(workers) == 2
        if how in ("a worker", "both"):
            os.kill(workers[0], signal.SIGKILL)
        if how != "a worker":
            process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGKILL)
    assert process.returncode != 0
    until(lambda: not any(map(is_alive, workers)))


def test_killed_workers_and_clients_cost_nothing_and_one_trial_at_a_time_finds_the_same(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
    section: dict[str, Any] = {
        "train": {"max_steps": 60, "eval_every_steps": 4, "dtype": "float32"},
        "sweep": {"parameters": RATES, "sampler": "grid", "pruner": "none"},
    }
    alone = classifier(name="alone", **section)
    prepared(alone)
    straight = outcomes(swept(alone))
    section["sweep"]["parallel"] = 2
    config = classifier(name="waves", **section)
    paths = prepared(config)
    for how in ("a worker", "Ctrl-C", "both"):
        for trial in (2, 3):  # each kill finds the second wave at its beginning
            shutil.rmtree(paths.root / f"sweep/trial-{trial}", ignore_errors=True)
        sweep_and_kill(config, how)
    resumed = swept(config)
    assert outcomes(resumed) == straight and resumed.best_params["train.learning_rate"] == 0.01
    assert len(resumed.trials) == 4


def test_a_trial_killed_at_any_moment_ends_as_it_would_have(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of what an engine starts, `tunegate trial FOLDER`, again and again; then once to its end."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
    config = classifier(
        train={"max_steps": 60, "eval_every_steps": 4, "dtype": "float32"},
        sweep={"parameters": RATES, "sampler": "grid", "trials": 1},
    )
    paths = prepared(config)
    whole = outcomes(swept(config))
    (folder,) = (paths.root / "sweep").glob("trial-*")
    left = read_trial(folder)
    shutil.rmtree(paths.root / "sweep")
    state_trial(left, {}, paths.data)
    command = [sys.executable, str(ROOT / "tunegate.py"), "trial", str(folder)]
    for evaluations in (1, 5):
        with subprocess.Popen(command) as process:
            until(lambda count=evaluations: len(read_course(folder)) > count or process.poll() is not None)  # type: ignore[misc]
            process.kill()
    assert subprocess.run(command).returncode == 0
    outcome = read_outcome(folder)
    assert outcome and [(outcome.state, outcome.value)] == [found[:2] for found in whole]


def test_a_hopeless_trial_is_pruned_and_mlflow_sees_parent_and_children(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    from infra.mlflow.tracking import start_run

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
    choices = {"train.learning_rate": {"choices": [0.01, 1e-7]}}
    train_section = {"max_steps": 8, "eval_every_steps": 4, "dtype": "float32", "warmup_ratio": 0.0}
    config = classifier(
        train=train_section, sweep={"parameters": choices, "sampler": "grid", "startup_trials": 1, "seed": 1}
    )
    paths = prepared(config)
    assert config.sweep
    study = sweep(config, config.sweep, paths, start_run)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]

    client = MlflowClient()
    experiment = client.get_experiment_by_name("tunegate")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.info.run_name == "tiny-classifier sweep")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert (
        sorted(run.info.run_name for run in children) == ["tiny-classifier trial 0", "tiny-classifier trial 1"]
        and len(runs) == 3
    )
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]
    assert parent.data.metrics["best_validation_loss"] == pytest.approx(study.best_value)
    assert {run.data.params["train.learning_rate"] for run in children} == {"0.01", "1e-07"}
    assert not list(Outbox(paths.root / "sweep/tracking").left()), "all of it is delivered"
