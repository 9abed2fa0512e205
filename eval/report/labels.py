"""Labels of a classifier or types of a tagger: each with the interval of its recall, the weakest first, and which are
taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eval.metrics.entities import spans_of
from eval.report.compared import paired_with
from eval.rules.evidence import Evidence
from eval.rules.result import finite
from eval.statistics.values import estimate_values

if TYPE_CHECKING:
    from pandas import DataFrame

CONFIDENCE = 0.95
MOST_LABELS = 16  # of a matrix that is read at a glance


class LabelRow(NamedTuple):
    """One label: how often it was to be found, recall with its interval, F1, and the reference's recall."""

    name: str
    n: int
    recall: float
    low: float
    high: float
    f1: float | None
    reference: float | None


class Pair(NamedTuple):
    """Rows of the label `gold` that were answered by `answer`: how many, their share of the label's rows with its
    interval, and how many of the reference's."""

    gold: str
    answer: str
    rows: int
    share: float
    low: float
    high: float
    reference: int | None


class Matrix(NamedTuple):
    """`rows`: gold label, then for each answer (count, share of the gold label's rows)."""

    answers: list[str]
    rows: list[tuple[str, list[tuple[int, float]]]]


def weakest(evidence: Evidence) -> list[LabelRow]:
    """By the upper end of recall's interval: a label of two rows does not stand before one that is surely weak."""
    name, frame = paired_with(evidence), evidence.measured.frame if evidence.measured else None
    mine, theirs = (
        (one.record.get("classes") or {}) if one else {}
        for one in (evidence.measured, evidence.references[name] if name else None)
    )
    outcomes = recalled(frame) if frame is not None and mine else {}
    found = []
    for label, part in outcomes.items():
        low, high = interval_of_share(part)
        f1 = finite((mine.get(label) or {}).get("f1"))
        other = finite((theirs.get(label) or {}).get("recall"))
        found.append(LabelRow(label, len(part), float(part["right"].mean()), low, high, f1, other))
    return sorted(found, key=lambda row: (row.high, row.recall, row.name))


def recalled(frame: DataFrame) -> dict[str, DataFrame]:
    """By label that rows have, columns `right` and `cluster`, one row each time that it was to be found: of a tagger an
    entity, and those of one text share a cluster."""
    import pandas

    clusters = frame.get("cluster", frame.index)
    if "entities" in frame:
        golds, answers = ([text.split(" ") for text in frame[name]] for name in ("gold", "answer"))
        pairs = spans_of(golds, answers)
    else:
        many = "gold_labels" in frame
        golds, answers = (
            [[str(label) for label in one] for one in frame[f"{name}_labels"]]
            if many
            else [[str(one)] for one in frame[name]]
            for name in ("gold", "answer")
        )
        pairs = [[(label, label in answer) for label in gold] for gold, answer in zip(golds, answers, strict=True)]
    rows = [
        (label, float(right), str(cluster))
        for one, cluster in zip(pairs, clusters, strict=True)
        for label, right in one
    ]
    table = pandas.DataFrame(rows, columns=["label", "right", "cluster"])
    return {str(label): part for label, part in table.groupby("label")}


def interval_of_share(rows: DataFrame) -> tuple[float, float]:
    """Of columns `right` and `cluster`."""
    found = estimate_values(rows["right"].to_numpy(), rows["cluster"].to_numpy(), "binary", confidence=CONFIDENCE)
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
    most_frequent = sorted((pairs or {}).items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    golds, answers = frame["gold"].astype(str), frame["answer"].astype(str)
    clusters, found = frame.get("cluster", frame.index.to_series()), []
    for (gold, answer), count in most_frequent:
        given = (answers[golds == gold] == answer).astype(float)
        low, high = interval_of_share(given.to_frame("right").assign(cluster=clusters[golds == gold]))
        before = None if theirs is None else theirs.get((gold, answer), 0)
        found.append(Pair(gold, answer, count, float(given.mean()), low, high, before))
    return found


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
