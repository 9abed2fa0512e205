"""Figures made of sums over rows: what is summed of each row, how the figure is made of the sums, and the rows that
would be best and worst for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.rows.tags import read_spans, way_of
from eval.metrics.classification import read_probabilities
from eval.metrics.generation import BLEU_ORDER

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Statistics:
    """`rows`: (n, k), what is summed. `figure`: sums of shape (..., k), of weights that add up to n, to figures. `best`
    and `worst`: (m, k), what an unseen example might add at its best and at its worst. `sized`: it is as large as one
    of the rows, whose best and worst these are; else any of them."""

    rows: Any
    figure: Callable[[Any], Any]
    best: Any
    worst: Any
    sized: bool = False


def statistics_of(base: str, label: str, frame: DataFrame) -> Statistics:
    """Raises ValueError for a figure that is not made of sums."""
    average, _, part = base.rpartition("_")
    if average == "entity":
        return entities(frame, part)
    if part in ("precision", "recall", "f1"):
        return labels(frame, part, average, label)
    makers = {
        "matthews_correlation": matthews,
        "bleu": bleu,
        "chrf": chrf,
        "perplexity": perplexity,
        "root_mean_squared_error": squared_error,
        "r_squared": explained,
    }
    if base not in makers:
        raise ValueError(f"{base} has no interval")
    return makers[base](frame)


def ratio(over: Any, under: Any) -> Any:
    """0 where there is nothing under it, as scikit-learn's zero_division=0."""
    import numpy

    return numpy.divide(over, under, out=numpy.zeros(numpy.broadcast(over, under).shape), where=under > 0)


def precision_recall_f1(part: str, right: Any, wrong: Any, missed: Any) -> Any:
    if part == "f1":
        return ratio(2 * right, 2 * right + wrong + missed)
    return ratio(right, right + (wrong if part == "precision" else missed))


def labels(frame: DataFrame, part: str, average: str, label: str) -> Statistics:
    """Columns: of each label that occurs, rows that have it and got it, got it and have it not, have it and did not get
    it. The worst row of a label has it and is given the label that is answered least."""
    import numpy

    if label and "entities" in frame:
        return types(frame, part, label)
    gold, answer = (label_sets(frame, name) for name in ("gold", "answer"))
    names = [label] if label else sorted({name for one in (*gold, *answer) for name in one} | known(frame, average))
    has, got = (numpy.array([[name in one for name in names] for one in side], dtype=float) for side in (gold, answer))
    rows = numpy.concatenate([has * got, (1 - has) * got, has * (1 - got)], axis=1)
    k = len(names)

    def calculate(found: Any) -> Any:
        right, wrong, missed = found[..., :k], found[..., k : 2 * k], found[..., 2 * k :]
        if average == "micro":
            right, wrong, missed = (one.sum(axis=-1, keepdims=True) for one in (right, wrong, missed))
        figures, occurs = precision_recall_f1(part, right, wrong, missed), right + wrong + missed > 0
        return ratio((figures * occurs).sum(axis=-1), occurs.sum(axis=-1))

    most = max(1.0, float(has.sum(axis=1).max()), float(got.sum(axis=1).max()))
    one, none, least = most * numpy.eye(k), numpy.zeros((k, k)), numpy.argsort(got.sum(axis=0), stable=True)[:2]
    given = numpy.where(numpy.arange(k) == least[0], least[-1], least[0])
    best = numpy.concatenate([one, none, none], axis=1)
    worst = numpy.concatenate([none, one[given] if k > 1 else none, one], axis=1)
    if label:  # an unseen row of another label that is given this one harms its precision
        best, worst = numpy.vstack([best, best]), numpy.vstack([worst, numpy.roll(worst, -1, axis=1)])
    return Statistics(rows, calculate, best, worst)


def known(frame: DataFrame, average: str) -> set[str]:
    """The labels that the release can answer, of a mean over labels: one that no row has would count as much as any
    other, so the first row of it may move the mean by 1 / their number."""
    if average != "macro" or "probabilities" not in frame:
        return set()
    given = frame["probabilities"].dropna()
    return {*read_probabilities(given.iloc[0])} if len(given) else set()


def label_sets(frame: DataFrame, side: str) -> list[set[str]]:
    if f"{side}_labels" in frame:
        return [set(one) for one in frame[f"{side}_labels"]]
    return [{one} for one in frame[side]]


def types(frame: DataFrame, part: str, kind: str) -> Statistics:
    """Of one type of entity: those found, those answered wrongly, those missed, by sentence."""
    import numpy

    golds, answers = ([text.split(" ") for text in frame[name]] for name in ("gold", "answer"))
    way = way_of({tag for tags in (*golds, *answers) for tag in tags})
    rows = []
    for gold, answer in zip(golds, answers, strict=True):
        wanted, found = ({one for one in read_spans(tags, way) if one[0] == kind} for tags in (gold, answer))
        rows.append((len(wanted & found), len(found - wanted), len(wanted - found)))
    return of_counts(numpy.array(rows, dtype=float), part)


def entities(frame: DataFrame, part: str) -> Statistics:
    found, wrong, wanted = (
        frame[name].to_numpy(dtype=float) for name in ("entities_found", "entities_wrong", "entities")
    )
    import numpy

    return of_counts(numpy.column_stack([found, wrong, wanted - found]), part)


def of_counts(rows: Any, part: str) -> Statistics:
    """Right, wrong and missed; an unseen sentence has as many as one that was seen, all right or all wrong."""
    import numpy

    most, none = numpy.maximum(rows[:, 0] + rows[:, 2], rows[:, 0] + rows[:, 1]), numpy.zeros(len(rows))
    best, worst = numpy.column_stack([most, none, none]), numpy.column_stack([none, most, most])
    return Statistics(rows, lambda found: precision_recall_f1(part, *numpy.moveaxis(found, -1, 0)), best, worst, True)


def matthews(frame: DataFrame) -> Statistics:
    """Columns: right, one, gold by label, answer by label (Gorodkin 2004, as in scikit-learn)."""
    import numpy

    gold, answer = (frame[name].astype(str).to_numpy() for name in ("gold", "answer"))
    names = numpy.array(sorted({*gold, *answer}))
    k, has, got = len(names), (gold[:, None] == names).astype(float), (answer[:, None] == names).astype(float)
    rows = numpy.concatenate([(gold == answer)[:, None].astype(float), numpy.ones((len(gold), 1)), has, got], axis=1)

    def calculate(found: Any) -> Any:
        right, total, has, got = found[..., 0], found[..., 1], found[..., 2 : 2 + k], found[..., 2 + k :]
        spread = (total**2 - (has**2).sum(axis=-1)) * (total**2 - (got**2).sum(axis=-1))
        return ratio(right * total - (has * got).sum(axis=-1), numpy.sqrt(numpy.maximum(spread, 0.0)))

    one, column = numpy.eye(k), numpy.ones((k, 1))
    best = numpy.concatenate([column, column, one, one], axis=1)
    worst = numpy.concatenate([0 * column, column, one, numpy.roll(one, 1, axis=1)], axis=1)
    return Statistics(rows, calculate, best, worst)


def present(frame: DataFrame, column: str) -> Any:
    """The statistics of the rows that have them, zeros of the others."""
    import numpy

    given = frame[column].dropna()
    rows = numpy.zeros((len(frame), len(given.iloc[0])))
    rows[frame[column].notna().to_numpy()] = numpy.stack(given.to_list())
    return rows


def bleu(frame: DataFrame) -> Statistics:
    """sacrebleu's compute_bleu with exponential smoothing, on sums that need not be whole."""
    import numpy

    rows = present(frame, "bleu_statistics")

    def calculate(found: Any) -> Any:
        length, wanted = found[..., 0], found[..., 1]
        right, total = found[..., 2 : 2 + BLEU_ORDER], found[..., 2 + BLEU_ORDER :]
        smoothed = 2.0 ** -numpy.cumsum(right <= 0, axis=-1)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            shares = numpy.log(numpy.where(right > 0, right, smoothed) / total)
            short = numpy.where(length < wanted, 1 - wanted / length, 0.0)
            score = 100 * numpy.exp(shares.mean(axis=-1) + short)
        return numpy.where((right.max(axis=-1) > 0) & (total.min(axis=-1) > 0), score, 0.0)

    best, worst = rows.copy(), rows.copy()
    best[:, 0], best[:, 2 : 2 + BLEU_ORDER] = rows[:, 1], rows[:, 2 + BLEU_ORDER :]
    worst[:, 2 : 2 + BLEU_ORDER] = 0
    return Statistics(rows, calculate, best, worst, True)


def chrf(frame: DataFrame) -> Statistics:
    """sacrebleu's chrF2: by order the n-grams of the answer, of the reference, and those in both."""
    import numpy

    rows = present(frame, "chrf_statistics")

    def calculate(found: Any) -> Any:
        answer, wanted, both = found[..., 0::3], found[..., 1::3], found[..., 2::3]
        counted = ((answer > 0) & (wanted > 0)).sum(axis=-1)
        precision, recall = (
            ratio(ratio(both, side).sum(axis=-1), numpy.asarray(counted, dtype=float)) for side in (answer, wanted)
        )
        return 100 * ratio(5 * precision * recall, 4 * precision + recall)

    best, worst = rows.copy(), rows.copy()
    best[:, 0::3] = best[:, 2::3] = rows[:, 1::3]
    worst[:, 2::3] = 0
    return Statistics(rows, calculate, best, worst, True)


def perplexity(frame: DataFrame) -> Statistics:
    """An unseen row is as one that was seen."""
    import numpy

    rows = frame[["logprob", "tokens"]].fillna(0).to_numpy(dtype=float)
    return Statistics(rows, lambda found: numpy.exp(-found[..., 0] / found[..., 1]), rows, rows)


def squared_error(frame: DataFrame) -> Statistics:
    """An unseen row errs as one that was seen."""
    import numpy

    squares = frame["absolute_error"].to_numpy(dtype=float) ** 2
    rows = numpy.column_stack([squares, numpy.ones(len(squares))])
    return Statistics(rows, lambda found: numpy.sqrt(found[..., 0] / found[..., 1]), rows, rows)


def explained(frame: DataFrame) -> Statistics:
    """Columns: squared error, one, gold less its mean, the square of that. An unseen row errs as one that was seen."""
    import numpy

    squares = frame["absolute_error"].to_numpy(dtype=float) ** 2
    gold = frame["gold"].to_numpy(dtype=float)
    gold = gold - gold.mean()
    rows = numpy.column_stack([squares, numpy.ones(len(gold)), gold, gold**2])

    def calculate(found: Any) -> Any:
        return 1 - found[..., 0] / (found[..., 3] - found[..., 2] ** 2 / found[..., 1])

    return Statistics(rows, calculate, rows, rows)
