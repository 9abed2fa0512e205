"""What a training records on disk, before any MLflow is asked: nothing of nothing, every leaf by name, each step once, the machine beside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infra.mlflow import tracking
from infra.mlflow.tracking import start_run
from tests.support.mlflow_store import config, here

__all__ = ["here"]


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
