"""Figures of classifiers, of one label a row or of many: scikit-learn's definitions over per-example columns."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from eval.metrics.rows import Prediction, Row
from infra.vllm.answer import Answer, joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pandas import DataFrame

LEAST = 1e-15  # a probability of 0 costs 34.5 nats, not infinitely many
BINS = 15


def score_label(row: Row, answer: Answer) -> Prediction:
    """`probabilities` as a JSON object, `confidence` the largest of them; a probability that is no number makes an
    infinite loss."""
    probs, gold = answer.probs or {}, row["label"]
    squared = [(probs.get(label, 0.0) - (label == gold)) ** 2 for label in {*probs, gold}]
    return {
        "gold": gold,
        "answer": answer.label,
        "correct": float(answer.label == gold),
        "log_loss": finite_or_infinite(-math.log(max(probs.get(gold, 0.0), LEAST))),
        "brier": finite_or_infinite(sum(squared) / (2 if len(squared) == 2 else 1)),
        "probabilities": as_json(answer.probs),
        "confidence": max(probs.values()) if probs else None,
    }


def score_labels(row: Row, answer: Answer) -> Prediction:
    """Losses are means over all labels, each a yes or no of its own."""
    gold, predicted, probs = sorted(map(str, row["labels"])), sorted(answer.labels or []), answer.probs or {}
    pairs = [(probs.get(label, 0.0), label in gold) for label in {*probs, *gold}]
    logs = [-math.log(max(value if true else 1 - value, LEAST)) for value, true in pairs]
    squared = [(value - true) ** 2 for value, true in pairs]
    return {
        "gold": joined(gold),
        "answer": joined(predicted),
        "correct": float(gold == predicted),
        "log_loss": finite_or_infinite(sum(logs) / max(len(pairs), 1)),
        "brier": finite_or_infinite(sum(squared) / max(len(pairs), 1)),
        "probabilities": as_json(answer.probs),
        "gold_labels": gold,
        "answer_labels": predicted,
    }


def finite_or_infinite(loss: float) -> float:
    """What is no number counts as the largest loss."""
    return loss if math.isfinite(loss) else math.inf


def as_json(probs: dict[str, float] | None) -> str | None:
    return None if probs is None else json.dumps(probs, ensure_ascii=False)


def outcomes(frame: DataFrame) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Gold and answer as scikit-learn takes them (labels, or 0/1 of shape (rows, labels) where a row may have many),
    and the labels that occur in either."""
    from sklearn.preprocessing import MultiLabelBinarizer

    if "gold_labels" not in frame:
        gold, predicted = (frame[name].to_numpy(dtype=object) for name in ("gold", "answer"))
        return gold, predicted, sorted({*gold, *predicted})
    binarizer = MultiLabelBinarizer().fit([*frame["gold_labels"], *frame["answer_labels"]])
    return (
        binarizer.transform(frame["gold_labels"]),
        binarizer.transform(frame["answer_labels"]),
        list(binarizer.classes_),
    )


def averaged(figure: str, average: str) -> Callable[[DataFrame], float]:
    """precision, recall or f1 by sklearn's precision_recall_fscore_support over the labels that occur; 0 where a label
    has none."""
    place = ("precision", "recall", "f1").index(figure)

    def calculate(frame: DataFrame) -> float:
        from sklearn.metrics import precision_recall_fscore_support

        gold, predicted, labels = outcomes(frame)
        return (
            float(precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)[place])
            if labels
            else math.nan
        )

    return calculate


def classes(frame: DataFrame) -> dict[str, dict[str, float]]:
    """By label: precision, recall, f1 and n, the number of rows that have it."""
    from sklearn.metrics import precision_recall_fscore_support

    gold, predicted, labels = outcomes(frame)
    if not labels:
        return {}
    figures = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
        for label, p, r, f, n in zip(labels, *figures, strict=True)
    }


def matthews_correlation(frame: DataFrame) -> float:
    """By scikit-learn; not a number where there is but one label in all."""
    from sklearn.metrics import matthews_corrcoef

    gold, predicted = frame["gold"].astype(str), frame["answer"].astype(str)
    return float(matthews_corrcoef(gold, predicted)) if len({*gold, *predicted}) > 1 else math.nan


@lru_cache(maxsize=16_384)  # a bootstrap asks for the same rows thousands of times
def read_probabilities(text: str) -> dict[str, float]:
    return {label: float(value) for label, value in json.loads(text).items()}


def over_labels(area: str) -> Callable[[DataFrame], float]:
    """sklearn's roc_auc_score or average_precision_score: the mean over labels, each against the rest, that some rows
    have and others have not."""

    def calculate(frame: DataFrame) -> float:
        import numpy
        from sklearn import metrics

        if frame["probabilities"].isna().any():
            return math.nan
        labels = sorted(read_probabilities(frame["probabilities"].iloc[0]))
        predicted = numpy.fromiter(
            (row.get(label, math.nan) for row in map(read_probabilities, frame["probabilities"]) for label in labels),
            dtype=float,
        )
        many = "gold_labels" in frame
        areas = []
        for label, values in zip(labels, predicted.reshape(-1, len(labels)).T, strict=True):
            true = numpy.fromiter(
                (label in one if many else label == one for one in frame["gold_labels" if many else "gold"]), dtype=bool
            )
            if true.any() and not true.all():
                areas.append(float(getattr(metrics, area)(true, values)) if numpy.isfinite(values).all() else math.nan)
        return sum(areas) / len(areas) if areas else math.nan

    return calculate


def expected_calibration_error(frame: DataFrame) -> float:
    """Sum over 15 bins of equal width of the share of rows in it times |accuracy - mean confidence| (Guo et al. 2017,
    arXiv:1706.04599, eq. 3)."""
    import numpy

    confidence, correct = frame["confidence"].to_numpy(dtype=float), frame["correct"].to_numpy(dtype=float)
    if not len(confidence) or not numpy.isfinite(confidence).all():
        return math.nan
    bins = numpy.clip(numpy.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (a, b], as in the paper
    return float(numpy.abs(numpy.bincount(bins, weights=correct - confidence, minlength=BINS)).sum() / len(confidence))
