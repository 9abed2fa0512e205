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
    """What a validation found; which figures beside the loss hangs on the task."""

    step: int
    eval_loss: float
    eval_accuracy: NotRequired[float]
    eval_macro_f1: NotRequired[float]
    eval_micro_f1: NotRequired[float]
    eval_entity_f1: NotRequired[float]
    eval_mean_absolute_error: NotRequired[float]
    eval_correlation: NotRequired[float]
    eval_distinct_answers: NotRequired[float]


class Resumption(TypedDict):
    """A training went on from the checkpoint of `step`, in `world_size` processes."""

    step: int
    world_size: int


class RunFacts(TypedDict):
    """What a resumed training must find as it was, also checkpoints/run.json; `key`: of its config and data,
    `threads`: of each process, `world_size`: processes that began it, `resumed`: each time that it went on,
    `first_loss`: a text model's validation loss before its first step."""

    key: str
    threads: int
    micro_batch: int
    world_size: NotRequired[int]
    resumed: NotRequired[list[Resumption]]
    diverged: NotRequired[str]
    first_loss: NotRequired[float]


class TrainingProcess(TypedDict):
    """One process of those that trained; `backend` where there was more than one."""

    rank: int
    pid: int
    backend: NotRequired[str]


class Course(TypedDict):
    """How a training went. `seconds` are those of the whole training in this process, `tokens_per_second` those of its
    steps: real tokens, no padding, without validations and checkpoints.

    The best step is that of the best `best_by`, a key of the validations, whose value there is `best_figure`."""

    losses: list[LossPoint]
    validation: list[ValidationPoint]
    steps: int
    epochs: float
    best_step: int
    best_validation_loss: float
    best_by: NotRequired[str]
    best_figure: NotRequired[float]
    resumed_from_step: int | None
    seconds: float
    real_tokens: int
    padding_share: float
    tokens_per_second: float | None
    dtype: str


class Learning(TypedDict):
    """Beside what is compared: the loss that one constant answer would have on the validation rows, or a text model had
    before its first step; and why a training is taken for one that learnt nothing, None where it is not."""

    constant_loss: NotRequired[float | None]
    no_better_than_constant: NotRequired[str | None]


class TrainingRecord(Course, Learning, RunFacts):
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
