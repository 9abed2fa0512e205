"""The training record: what a training came to, build/NAME/trained/training.json."""

from __future__ import annotations

import json
from typing import NotRequired, TypedDict, cast

from configs.paths import RunPaths


class LossPoint(TypedDict):
    """Training loss of one step."""

    step: int
    loss: float


class ValidationPoint(TypedDict):
    """What a validation found; accuracy for classes alone."""

    step: int
    eval_loss: float
    eval_accuracy: NotRequired[float]


class RunFacts(TypedDict):
    """What a resumed training must find as it was, also checkpoints/run.json; `key`: of its config and data."""

    key: str
    threads: int
    micro_batch: int
    diverged: NotRequired[str]


class TrainingProcess(TypedDict):
    """One process of those that trained; `backend` where there was more than one."""

    rank: int
    pid: int
    backend: NotRequired[str]


class Course(TypedDict):
    """How a training went. `seconds` are those of the whole training in this process, `tokens_per_second` those of its
    steps: real tokens, no padding, without validations and checkpoints."""

    losses: list[LossPoint]
    validation: list[ValidationPoint]
    steps: int
    epochs: float
    best_step: int
    best_validation_loss: float
    resumed_from_step: int | None
    seconds: float
    real_tokens: int
    padding_share: float
    tokens_per_second: float | None
    dtype: str


class TrainingRecord(Course, RunFacts):
    """The whole record; `tracking_run_id`: MLflow's, None where it was not to be had."""

    processes: list[TrainingProcess]
    tracking_run_id: str | None


class TrainingReport(TrainingRecord):
    """What `train` shows: the record, and the memory at its peak where this very call trained."""

    peak_memory_bytes: NotRequired[int]


def read_training_record(paths: RunPaths) -> TrainingRecord | None:
    """None where there is none."""
    try:
        found = json.loads((paths.trained / "training.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return cast(TrainingRecord, found) if isinstance(found, dict) else None
