"""Whether a training learnt nothing: no better on the validation rows than one answer to all of them."""

from __future__ import annotations

import math

from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord, ValidationPoint
from train.loop.figures import Kind

FEWEST_ROWS = 10  # fewer rows may well all have one answer
# The share of the constant answer's loss by which a model with one answer must be below it (McFadden's pseudo-R²):
# beneath, a loss differs from the constant's by chance.
LEAST_GAIN = 0.01
NORMAL_975 = 1.96  # of the standard normal distribution

ONE_ANSWER: dict[Kind, str] = {
    "single_label": "one class for every row, macro F1 {eval_macro_f1:.2f}",
    "multi_label": "the same labels for every row, micro F1 {eval_micro_f1:.2f}",
    "tags": "one tag for every word, entity F1 {eval_entity_f1:.2f}",
}


def find_nothing_learnt(kind: Kind, best: ValidationPoint, rows: int, constant_loss: float | None) -> str | None:
    """What shows on `rows` validation rows that nothing was learnt, or None. `best`: the validation of the kept
    checkpoint.

    Of classes and tags: one answer to all, and a loss that is no lower than the entropy of their labels. Of numbers: no
    less squared error than the mean's, and no correlation with the gold ones that differs from 0 (Fisher's z, 95%). Of
    texts and pairs: no lower loss than before the first step (`constant_loss`).
    """
    loss = best["eval_loss"]
    if not constant_loss or rows < FEWEST_ROWS:  # rows of one class, or of one number, tell nothing apart
        return None
    if kind == "text":
        return (
            f"validation loss {loss:.4g} at its best, no lower than {constant_loss:.4g} before the first step"
            if loss >= constant_loss
            else None
        )
    if loss < constant_loss * (1 - LEAST_GAIN):
        return None
    beside = f"and the loss {loss:.4g} is no lower than {constant_loss:.4g}"
    if kind == "regression":
        found = best.get("eval_correlation", 0.0)
        if is_above_zero(found, rows):
            return None
        return f"validation correlation {found:.2f}, {beside}, that of answering the mean everywhere"
    if best.get("eval_distinct_answers") != 1:
        return None
    return f"validation: {ONE_ANSWER[kind].format(**best)}, {beside}, that of the labels' shares alone"


def is_above_zero(correlation: float, rows: int) -> bool:
    """By the lower end of its 95% interval (Fisher 1915)."""
    bounded = max(-0.999999, min(0.999999, correlation))
    return math.atanh(bounded) - NORMAL_975 / math.sqrt(rows - 3) > 0


def refuse_nothing_learnt(config: RunConfig, record: TrainingRecord) -> None:
    """Raises RefusedError. A run whose rows are corrupted on purpose goes on: it is the gate's to refuse."""
    found = record.get("no_better_than_constant")
    if found and not config.train.accept_constant and config.data.corrupt == "none":
        raise RefusedError(
            f"train: {config.name} learnt nothing: {found}",
            hint="--set train.learning_rate=LOWER, or more steps; --set train.accept_constant=true goes on with it",
        )
