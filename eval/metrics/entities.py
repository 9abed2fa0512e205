"""Figures of taggers: whole entities, as seqeval (Nakayama 2018) reads BIO, IOB and IO tags."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eval.metrics.rows import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandas import DataFrame


def score_tags(gold: list[str], predicted: list[str]) -> Prediction:
    """`correct`: every entity of the sentence found, and no other."""
    from seqeval.metrics.sequence_labeling import get_entities

    wanted, found = set(get_entities(gold)), set(get_entities(predicted))
    alike = sum(one == other for one, other in zip(gold, predicted, strict=False)) / max(len(gold), 1)
    return {
        "gold": " ".join(gold),
        "answer": " ".join(predicted),
        "correct": float(wanted == found),
        "token_accuracy": alike,
        "entities": len(wanted),
        "entities_found": len(wanted & found),
        "entities_wrong": len(found - wanted),
    }


def over_entities(*of: str, times: int = 1) -> Callable[[DataFrame], float]:
    """`times` the entities found over those that the columns `of` count together: seqeval's micro averages, 0 where
    there are none."""

    def calculate(frame: DataFrame) -> float:
        if not len(frame):
            return math.nan
        found, counted = float(frame["entities_found"].sum()), float(sum(frame[name].sum() for name in of))
        return times * found / counted if counted else 0.0

    return calculate


def types(frame: DataFrame) -> dict[str, dict[str, float]]:
    """By entity type: precision, recall, f1 and n, the number of gold entities."""
    from seqeval.metrics import classification_report

    golds, answers = ([text.split(" ") for text in frame[name]] for name in ("gold", "answer"))
    report = classification_report(golds, answers, output_dict=True, zero_division=0)
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "n": "support"}
    return {
        kind: {ours: float(row[theirs]) for ours, theirs in names.items()}
        for kind, row in report.items()
        if not kind.endswith(" avg")
    }
