"""Figures of numbers: the distances between answer and gold, and their order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eval.metrics.rows import Prediction
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    from pandas import DataFrame


def score_number(gold: float, answer: Answer) -> Prediction:
    """An absent number is no small error: it is infinite."""
    value = answer.value if answer.value is not None and math.isfinite(answer.value) else math.inf
    return {"gold": gold, "answer": value, "absolute_error": abs(value - gold)}


def score_pair(answer: Answer) -> Prediction:
    """Of a reward model: whether its number is larger for the chosen answer. An absent number prefers nothing."""
    chosen, rejected = answer.value, answer.rejected_value
    margin = -math.inf if chosen is None or rejected is None else chosen - rejected
    preferred = float(margin > 0)
    said = "chosen" if preferred else "rejected"
    return {
        "gold": "chosen",
        "answer": said,
        "correct": preferred,
        "preferred": preferred,
        "preference_margin": margin,
    }


def root_mean_squared_error(frame: DataFrame) -> float:
    return math.sqrt(float((frame["absolute_error"] ** 2).mean()))


def r_squared(frame: DataFrame) -> float:
    """sklearn's r2_score; not a number where the gold values are all alike, for there is nothing to explain."""
    from sklearn.metrics import r2_score

    return (
        float(r2_score(frame["gold"], frame["answer"]))
        if frame["gold"].nunique() > 1 and math.isfinite(frame["absolute_error"].max())
        else math.nan
    )


def spearman(frame: DataFrame) -> float:
    """Rank correlation by scipy; not a number where one side is constant: the gate then has no evidence."""
    from scipy.stats import spearmanr

    varied = frame["gold"].nunique() > 1 and frame["answer"].nunique() > 1
    return float(spearmanr(frame["gold"], frame["answer"]).statistic) if varied else math.nan
