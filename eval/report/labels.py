"""Labels of a classifier or types of a tagger: each with the interval of its recall, the weakest first, and which are
taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eval.report.compared import paired_with
from eval.rules.evidence import Evidence
from eval.rules.result import finite
from eval.statistics.by_metric import estimate

if TYPE_CHECKING:
    from pandas import DataFrame

CONFIDENCE = 0.95
MOST_LABELS = 16  # of a matrix that is read at a glance


class LabelRow(NamedTuple):
    """One label: rows that have it, recall with its interval, F1, and the reference's recall."""

    name: str
    n: int
    recall: float
    low: float
    high: float
    f1: float | None
    reference: float | None


class Pair(NamedTuple):
    """Rows of the label `gold` that were answered by `answer`: how many, their share of the label's rows, and how many
    of the reference's."""

    gold: str
    answer: str
    rows: int
    share: float
    reference: int | None


class Matrix(NamedTuple):
    """`rows`: gold label, then for each answer (count, share of the gold label's rows)."""

    answers: list[str]
    rows: list[tuple[str, list[tuple[int, float]]]]


def weakest(evidence: Evidence) -> list[LabelRow]:
    """By the upper end of recall's interval: a label of two rows does not stand before one that is surely weak."""
    name = paired_with(evidence)
    mine, theirs = (
        (one.record.get("classes") or {}) if one else {}
        for one in (evidence.measured, evidence.references[name] if name else None)
    )
    found = []
    for label, figures in mine.items():
        recall, n = finite(figures.get("recall")), finite(figures.get("n"))
        if recall is not None and n:
            low, high = interval_of_share(round(recall * n), int(n))
            other = finite((theirs.get(label) or {}).get("recall"))
            found.append(LabelRow(label, int(n), recall, low, high, finite(figures.get("f1")), other))
    return sorted(found, key=lambda row: (row.high, row.recall, row.name))


def interval_of_share(right: int, n: int) -> tuple[float, float]:
    from pandas import DataFrame

    rows = DataFrame({"id": [str(place) for place in range(n)], "correct": [1.0] * right + [0.0] * (n - right)})
    found = estimate("accuracy", rows, CONFIDENCE, bound=0.5)
    return found.low, found.high


def one_label_a_row(frame: DataFrame | None) -> bool:
    return frame is not None and "confidence" in frame and "gold_labels" not in frame and {"gold", "answer"} <= {*frame}


def confused(frame: DataFrame | None, reference: DataFrame | None = None, most: int = 10) -> list[Pair]:
    """Which label is taken for which, the most frequent first; of a classifier with one label a row."""
    if frame is None or not one_label_a_row(frame):
        return []
    pairs, theirs = (
        wrong_pairs(one) if one is not None and {"gold", "answer"} <= {*one} else None for one in (frame, reference)
    )
    totals = frame["gold"].astype(str).value_counts()
    found = [
        Pair(gold, answer, count, count / int(totals[gold]), None if theirs is None else theirs.get((gold, answer), 0))
        for (gold, answer), count in (pairs or {}).items()
    ]
    return sorted(found, key=lambda pair: (-pair.rows, pair.gold, pair.answer))[:most]


def wrong_pairs(frame: DataFrame) -> dict[tuple[str, str], int]:
    gold, answer = frame["gold"].astype(str), frame["answer"].astype(str)
    counted = frame.assign(gold=gold, answer=answer)[gold != answer].groupby(["gold", "answer"]).size()
    return {(str(pair[0]), str(pair[1])): int(count) for pair, count in counted.items()}  # type: ignore[index]


def matrix(frame: DataFrame | None) -> Matrix | None:
    """Of a classifier with one label a row and MOST_LABELS labels at most."""
    import pandas

    if frame is None or not one_label_a_row(frame):
        return None
    gold, answer = frame["gold"].astype(str), frame["answer"].astype(str)
    labels = sorted({*gold, *answer})
    if len(labels) > MOST_LABELS:
        return None
    table = pandas.crosstab(gold, answer).reindex(index=labels, columns=labels, fill_value=0)
    totals = gold.value_counts()
    rows = [
        (str(label), [(int(count), float(count / max(1, totals.get(label, 0)))) for count in counts])
        for label, counts in zip(table.index, table.to_numpy(), strict=True)
    ]
    return Matrix(labels, rows)
