"""Sweeps in waves: what two workers gain on two cores, what a hundred cost, and that kills change no winner."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.prove import Row, console, run, tested, tunegate
from configs.paths import RunPaths
from configs.read import read_run
from train.search.study import finished
from train.search.workers import local_workers
from train.sweep import sweep

TRIALS, SLEEPERS, SLEEP_SECONDS = 8, 100, 60
# Speaks as `tunegate trial --parent` does and imports nothing, for a hundred of those would import for minutes on two
# cores: what is measured is what the sweep itself costs.
SLEEPER = f"""
import json, sys, time
for line in sys.stdin:
    folder = line.strip()
    time.sleep({SLEEP_SECONDS})
    loss = (int(folder.rpartition("-")[2]) * 37 % 100 + 1) / 100
    outcome = {{"state": "COMPLETE", "value": loss, "reason": None, "course": {{"1": loss}}}}
    with open(folder + "/outcome.json", "w") as file:
        json.dump(outcome, file)
    print("{{}}", flush=True)
"""


class Silent:
    """Stands for MLflow."""

    run_id = None

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def finish(self, status: str = "FINISHED") -> None: ...


def sweeps() -> list[Row]:
    return [
        *two_workers(),
        hundred_sleepers(),
        *tested("a sweep killed anywhere comes to the same trials (fake trainings)", "tests/train/test_sweep_waves.py"),
        *tested("the same with real trainings, workers, clients and both killed", "tests/train/test_sweep_trained.py"),
    ]


def two_workers() -> list[Row]:
    """The same eight small trainings, one at a time on one core or on both, and two at a time."""
    loads = [os.getloadavg()[0]]
    spent = {
        "one core": timed("prove-sweep-one", 1, threads="1"),
        "two workers": timed("prove-sweep-two", 2, threads="1"),
        "both cores": timed("prove-sweep-both", 1, threads="2"),
    }
    loads.append(os.getloadavg()[0])
    load = f"load of the machine {loads[0]:.1f} before, {loads[1]:.1f} after"
    seconds = {name: one.wall for name, one in spent.items()}
    shown = ", ".join(f"{name} {one.wall:.0f} s, {one.cpu:.0f} of CPU" for name, one in spent.items())
    gain = seconds["one core"] / seconds["two workers"]
    beside = seconds["both cores"] / seconds["two workers"]
    return [
        Row(
            f"two workers, one core each, against one on one core: {TRIALS} trainings",
            f"{gain:.2f}x ({shown}; {load})",
            "1.8x",
            gain >= 1.8,
        ),
        Row("two workers against one with both cores", f"{beside:.2f}x", "shown", True),
    ]


class Spent(NamedTuple):
    """Seconds of a command; `cpu`: of all its processes."""

    wall: float
    cpu: float


def timed(name: str, parallel: int, threads: str) -> Spent:
    """With its imports and the start of its workers; the rows are prepared before."""
    shutil.rmtree(Path("build") / name, ignore_errors=True)
    arguments = ["configs/finetune/sentiment-sweep.yaml"]
    for key, value in {
        "name": name,
        "train.max_steps": 150,
        "sweep.trials": TRIALS,
        "sweep.sampler": "random",
        "sweep.pruner": "none",
        "sweep.parallel": parallel,
    }.items():
        arguments += ["--set", f"{key}={value}"]
    tunegate("prepare", *arguments)
    began, before = time.monotonic(), cpu_of_children()
    command = Path(sys.executable).with_name("tunegate")
    run(str(command), "sweep", *arguments, "--json", environment={"OMP_NUM_THREADS": threads})
    return Spent(time.monotonic() - began, cpu_of_children() - before)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def hundred_sleepers() -> Row:
    """Against their sleep one after the other, which needs no measuring."""
    name = "prove-sleepers"
    shutil.rmtree(Path("build") / name, ignore_errors=True)
    section = {
        "trials": SLEEPERS,
        "parallel": SLEEPERS,
        "sampler": "random",
        "pruner": "none",
        "parameters": {"train.learning_rate": {"low": 1e-5, "high": 1e-2}},
    }
    overrides = [f"name={name}", f"sweep={json.dumps(section)}"]
    tunegate("prepare", "configs/finetune/smoke.yaml", "--set", overrides[0])
    config, paths = read_run(Path("configs/finetune/smoke.yaml"), overrides), RunPaths.of(name)
    assert config.sweep
    (paths.root / "sweep").mkdir()
    began = time.monotonic()
    with local_workers(
        SLEEPERS, SLEEPERS, paths.root / "sweep", lambda *_: None, [sys.executable, "-S", "-c", SLEEPER]
    ) as run_wave:
        study = sweep(config, config.sweep, paths, lambda *_: Silent(), run_wave)
        spent = time.monotonic() - began
    gain = SLEEPERS * SLEEP_SECONDS / spent
    console.print(f"{len(finished(study))} trials in {spent:.1f} s, the best {study.best_value}")
    return Row(
        f"{SLEEPERS} trials that sleep {SLEEP_SECONDS} s on {SLEEPERS} workers",
        f"{gain:.1f}x ({spent:.1f} s)",
        "90x",
        gain >= 90 and len(finished(study)) == SLEEPERS,
    )
