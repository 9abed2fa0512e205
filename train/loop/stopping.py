"""When training is given up: the loss is no number or explodes, validation stands still, memory runs out. Pure
decisions."""

from __future__ import annotations

import math
import statistics

from configs.errors import RefusedError
from configs.training.train import Divergence

Log = list[dict[str, float]]  # a trainer's log_history: step, loss, grad_norm, eval_loss …
Goal = tuple[str, bool]  # a key of it that the best checkpoint is chosen by, and whether more of it is better
BY_LOSS: Goal = ("eval_loss", False)


class DivergedError(RefusedError):
    """Training was given up for its loss or gradient."""


def losses_of(history: Log) -> list[float]:
    return [line["loss"] for line in history if "loss" in line]


def find_divergence(history: Log, rule: Divergence) -> str | None:
    """What is wrong with the last line of a trainer's log, or None.

    A loss has exploded if it lies above the first loss and above `rule.factor` times the median of the `rule.window`
    losses before it; `rule.patience` such losses in a row are a divergence, one alone is a hard batch. The first loss
    is in the rule because the median of a training that has learned its rows is near zero, and any batch lies far above
    it.
    """
    for name in ("loss", "grad_norm", "eval_loss"):
        value = history[-1].get(name) if history else None
        if value is not None and not math.isfinite(value):
            return f"{name} is {value}"
    losses = losses_of(history)
    last = range(len(losses) - rule.patience, len(losses))
    if last.start < rule.window or not all(has_exploded(losses, index, rule) for index in last):
        return None
    return (
        f"{rule.patience} losses in a row above {rule.factor:g} times the median of the {rule.window} before "
        f"and above the first loss {losses[0]:.3g}"
    )


def has_exploded(losses: list[float], index: int, rule: Divergence) -> bool:
    return losses[index] > losses[0] and losses[index] > rule.factor * statistics.median(
        losses[max(0, index - rule.window) : index]
    )


def figures_of(history: Log, goal: Goal) -> list[tuple[float, float]]:
    """At each validation the goal's figure, negated where less is better, and behind it the loss: the largest is the
    best."""
    key, more = goal
    return [(line[key] if more else -line[key], -line.get("eval_loss", 0.0)) for line in history if key in line]


def has_stalled(history: Log, patience: int | None, goal: Goal = BY_LOSS) -> bool:
    """Whether the last `patience` validations brought no new best one; of two with one figure the lower loss is the
    better, for a tagger's loss falls long before it finds a first entity. Read from the log, so a resumed run decides
    alike."""
    found = figures_of(history, goal)
    return patience is not None and len(found) > patience and max(found[-patience:]) <= max(found[:-patience])


def is_new_best(history: Log, goal: Goal) -> bool:
    """Whether the last validation's figure is better than all before it, as transformers chooses the best
    checkpoint."""
    found = [figure for figure, _ in figures_of(history, goal)]
    return bool(found) and all(found[-1] > earlier for earlier in found[:-1])


def smaller_micro_batch(micro_batch: int) -> int | None:
    """The largest divisor of at most half its size, so that the effective batch stays; None where one row is already
    too much."""
    return max((size for size in range(1, micro_batch // 2 + 1) if micro_batch % size == 0), default=None)
