"""What the training record says of a course, and of what it learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from configs.run.config import RunConfig
from configs.training_record import Course, Learning, RunFacts, ValidationPoint
from train.batches.order import RowSchedule
from train.loop.checkpoints import step_of
from train.loop.constant import find_nothing_learnt
from train.loop.figures import kind_of
from train.loop.stopping import BY_LOSS, Goal
from train.loop.validation import Validation


def describe_course(
    trainer: Any,
    schedule: RowSchedule,
    checkpoint: Path | None,
    seconds: float,
    step_seconds: float,
    goal: Goal = BY_LOSS,
) -> Course:
    """`seconds` of the whole training and `step_seconds` of its steps are those of this process: a resumed run's
    earlier ones are not in them."""
    state = trainer.state
    first = step_of(checkpoint) if checkpoint else 0
    real_tokens = schedule.real_tokens(first, state.global_step)
    validation = [validation_point(line) for line in state.log_history if "eval_loss" in line]
    return {
        "losses": [{"step": line["step"], "loss": line["loss"]} for line in state.log_history if "loss" in line],
        "validation": validation,
        "steps": state.global_step,
        "epochs": schedule.epochs(state.global_step),
        "best_step": state.best_global_step,
        "best_validation_loss": next(
            (point["eval_loss"] for point in validation if point["step"] == state.best_global_step), state.best_metric
        ),
        "best_by": goal[0],
        "best_figure": state.best_metric,
        "resumed_from_step": first or None,
        "seconds": round(seconds, 2),
        "real_tokens": real_tokens,
        "padding_share": round(schedule.padding_share, 4),
        "tokens_per_second": round(real_tokens / step_seconds, 1) if step_seconds else None,
        "dtype": "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else "float32",
    }


def validation_point(line: dict[str, float]) -> ValidationPoint:
    """Of one line of a trainer's log."""
    found: dict[str, Any] = {name: line[name] for name in ValidationPoint.__annotations__ if name in line}
    return cast(ValidationPoint, found | {"step": int(line["step"])})


def describe_learning(trainer: Any, config: RunConfig, validate: Validation | None, facts: RunFacts) -> Learning:
    """Beside the loss that one constant answer would have, or that the model had before its first step."""
    if validate is None:
        return {}
    kind, best = kind_of(config), trainer.state.best_global_step
    constant_loss = facts.get("first_loss") if kind == "text" else validate.constant_loss
    points = [validation_point(line) for line in trainer.state.log_history if "eval_loss" in line]
    found = [point for point in points if point["step"] == best]
    rows = len(trainer.eval_dataset)
    return {
        "constant_loss": constant_loss,
        "no_better_than_constant": find_nothing_learnt(kind, found[0], rows, constant_loss) if found else None,
    }
