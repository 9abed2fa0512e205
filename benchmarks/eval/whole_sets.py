"""Whole-set figures for benchmarks/eval/cells.py: populations of rows, good answers and bad ones, and the gate's own
weighing of them, on many draws at once. Areas and ranks are taken over a few levels, so that they too are sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy
import pandas
from numpy.typing import NDArray

from eval.statistics import calibration, ranks, sums
from eval.statistics.figures import LEAST
from eval.statistics.weighted import effect_of

SEED = 20_261_127
WEIGHINGS = 999  # of the 1,999 that the gate draws
ROWS = 300  # of the population, good and bad
FIRST = 100  # of them, after which most draws are decided
ALPHA = 0.025
CHUNK = 12_000_000  # numbers in memory at a time
LEVELS = 8
Array = NDArray[Any]
Random = numpy.random.Generator
# Of draws by place, with weights, the unseen's share and which weighings these are: weighings that speak for a p, (2
# sides, intervals, draws). A p is the least of its intervals', times their number.
Count = Callable[[Array, Array, Array, slice], Array]


class Figure(NamedTuple):
    """`rows`: (2 * ROWS, k), the good ones first. `value`: sums of weights that add up to n. `effect`: of sums of shape
    (draws, k), n, and which rows are there, of shape (draws, 2 * ROWS); of each row, so shaped too, where `sized`."""

    rows: Array
    value: Callable[[Array], Array]
    effect: Callable[[Array, int, Array], Array]
    higher_is_better: bool = True
    sized: bool = False


def of_sums(metric: str, make: Callable[[Random, float], pandas.DataFrame], higher: bool = True) -> Figure:
    """`make`: ROWS rows, of which such a share is right; the same questions for both."""
    frame = pandas.concat([make(numpy.random.default_rng(SEED), share) for share in (0.85, 0.4)], ignore_index=True)
    base, _, label = metric.partition(":")
    found = sums.statistics_of(base, label, frame)

    def effect(totals: Array, n: int, present: Array) -> Array:
        if found.sized:
            return numpy.asarray(effect_of(found, totals, n))
        others = (totals * (n - 1) / n)[:, None, :]
        best, worst = found.figure(others + found.best), found.figure(others + found.worst)
        if best.shape[1] == present.shape[1]:
            hidden = numpy.where(present, 0, math.nan)
            best, worst = best + hidden, worst + hidden
        ends = (numpy.nanmax(best, 1) - numpy.nanmin(worst, 1), numpy.nanmax(worst, 1) - numpy.nanmin(best, 1))
        return numpy.asarray(n * numpy.maximum(*ends))

    return Figure(found.rows, found.figure, effect, higher, found.sized)


def one_label(random: Random, share: float) -> pandas.DataFrame:
    """Of three labels, a half, three tenths, a fifth."""
    gold = random.choice(["a", "b", "c"], ROWS, p=[0.5, 0.3, 0.2])
    answer = numpy.where(random.random(ROWS) < share, gold, random.choice(["a", "b", "c"], ROWS))
    return pandas.DataFrame({"gold": gold, "answer": answer, "correct": (gold == answer).astype(float)})


def many_labels(random: Random, share: float) -> pandas.DataFrame:
    has = random.random((ROWS, 3)) < [0.6, 0.3, 0.2]
    got = numpy.where(random.random((ROWS, 3)) < share, has, ~has)
    sides = [[[name for name, one in zip("abc", row, strict=True) if one] for row in side] for side in (has, got)]
    return pandas.DataFrame({"gold_labels": sides[0], "answer_labels": sides[1]})


def sentences(random: Random, share: float) -> pandas.DataFrame:
    """Most have no entity, a few have many, as in the rows of ner_finance."""
    wanted = random.geometric(0.3, ROWS) * (random.random(ROWS) < 0.35)
    found = random.binomial(wanted, share)
    wrong = random.binomial(wanted + 1, (1 - share) / 3)
    return pandas.DataFrame({"entities": wanted, "entities_found": found, "entities_wrong": wrong})


def ngrams(random: Random, share: float, orders: int) -> tuple[Array, Array, list[Array]]:
    """Lengths of the reference and of the answer, and matches by order."""
    wanted = random.integers(8, 30, ROWS)
    given = numpy.maximum(orders, wanted + random.integers(-2, 3, ROWS))
    matches = [random.binomial(numpy.minimum(wanted, given) - order, share ** (order + 1)) for order in range(orders)]
    return wanted, given, matches


def bleu(random: Random, share: float) -> pandas.DataFrame:
    wanted, given, matches = ngrams(random, share, 4)
    columns = [given, wanted, *matches, *(given - order for order in range(4))]
    return pandas.DataFrame({"bleu_statistics": numpy.column_stack(columns).tolist()})


def chrf(random: Random, share: float) -> pandas.DataFrame:
    wanted, given, matches = ngrams(random, share, 6)
    columns = [one for order, match in enumerate(matches) for one in (given - order, wanted - order, match)]
    return pandas.DataFrame({"chrf_statistics": numpy.column_stack(columns).tolist()})


def likelihoods(random: Random, share: float) -> pandas.DataFrame:
    tokens = random.integers(5, 60, ROWS)
    return pandas.DataFrame({"tokens": tokens, "logprob": -tokens * random.gamma(4, 0.5 / share / 4, ROWS)})


def numbers(random: Random, share: float) -> pandas.DataFrame:
    gold = random.normal(size=ROWS)
    return pandas.DataFrame({"gold": gold, "absolute_error": abs(random.normal(scale=0.4 / share, size=ROWS))})


def area(curve: Callable[[Array, Array], Array], steps: Callable[[Array], Array]) -> Figure:
    """Three tenths are positive; scores of LEVELS levels."""
    parts = []
    for share in (0.85, 0.4):
        random = numpy.random.default_rng(SEED)
        true = random.random(ROWS) < 0.3
        score = numpy.where(true, 1, -1) * 1.5 * share + random.normal(size=ROWS)
        level = numpy.digitize(-score, numpy.linspace(-2.5, 2.5, LEVELS - 1))
        parts.append(numpy.eye(2 * LEVELS)[numpy.where(true, level, LEVELS + level)])

    def value(found: Array) -> Array:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            sides = numpy.cumsum(found[..., :LEVELS], axis=-1), numpy.cumsum(found[..., LEVELS:], axis=-1)
            return curve(*sides)

    def effect(totals: Array, n: int, _: Array) -> Array:
        positives = totals[:, :LEVELS].sum(axis=1)
        rarer = numpy.maximum(numpy.minimum(positives, n - positives), 1)
        return numpy.asarray(n * steps(numpy.maximum(positives, 1)) / rarer)

    return Figure(numpy.concatenate(parts), value, effect)


def spearman() -> Figure:
    """Of five levels on either side."""
    k, parts = 5, []
    for share in (0.85, 0.4):
        random = numpy.random.default_rng(SEED)
        gold = random.normal(size=ROWS)
        answer = share * gold + random.normal(scale=0.5, size=ROWS)
        one, other = (numpy.digitize(side, (-1, -0.4, 0.4, 1)) for side in (gold, answer))
        parts.append(numpy.eye(k * k)[k * one + other])

    def value(found: Array) -> Array:
        table = found.reshape(*found.shape[:-1], k, k)
        one, other = (centred(table.sum(axis=axis)) for axis in (-1, -2))
        covariance = (table * one[..., :, None] * other[..., None, :]).sum(axis=(-1, -2))
        spreads = ((table.sum(axis=axis) * side**2).sum(axis=-1) for axis, side in ((-1, one), (-2, other)))
        with numpy.errstate(divide="ignore", invalid="ignore"):
            return numpy.asarray(covariance / numpy.sqrt(next(spreads) * next(spreads)))

    return Figure(numpy.concatenate(parts), value, lambda totals, n, _: numpy.full(len(totals), 6.0))


def centred(weights: Array) -> Array:
    """Mid-ranks of levels less half of all weight."""
    below = numpy.cumsum(weights, axis=-1) - weights / 2
    return numpy.asarray(below - weights.sum(axis=-1, keepdims=True) / 2)


def calibration_rows() -> Array:
    """(2 * ROWS, BINS): the good rows calibrated but for a little, the bad ones too sure."""
    parts = []
    for excess in (0.02, 0.3):
        random = numpy.random.default_rng(SEED)
        sure = random.uniform(0.5, 1, ROWS)
        right = (random.random(ROWS) < sure - excess).astype(float)
        parts.append(calibration.gaps(pandas.DataFrame({"confidence": sure, "correct": right})))
    return numpy.concatenate(parts)


FIGURES: dict[str, Callable[[], Figure]] = {
    "micro_f1": lambda: of_sums("micro_f1", many_labels),
    "macro_f1": lambda: of_sums("macro_f1", one_label),
    "f1:LABEL": lambda: of_sums("f1:c", one_label),
    "precision:LABEL": lambda: of_sums("precision:c", one_label),
    "matthews_correlation": lambda: of_sums("matthews_correlation", one_label),
    "entity_f1": lambda: of_sums("entity_f1", sentences),
    "bleu": lambda: of_sums("bleu", bleu),
    "chrf": lambda: of_sums("chrf", chrf),
    "perplexity": lambda: of_sums("perplexity", likelihoods, higher=False),
    "root_mean_squared_error": lambda: of_sums("root_mean_squared_error", numbers, higher=False),
    "r_squared": lambda: of_sums("r_squared", numbers),
    "roc_auc": lambda: area(ranks.under_roc, numpy.ones_like),
    "pr_auc": lambda: area(ranks.average_precision, lambda positives: 1 + numpy.log(positives)),
    "spearman": spearman,
}


def judge(found: Figure, mine: Array, theirs: Array, truth: float, rows: Array, size: int) -> tuple[Array, Array]:
    """p_above and p_below of the difference `truth`, the better turned upwards, for places of shape (draws, clusters,
    size) in `mine` and `theirs`, which are places in the figure's rows."""
    n, sign = rows.shape[1] * size, 1 if found.higher_is_better else -1

    def count(part: Array) -> Count:
        sides, effects = [], []
        for side in (mine, theirs):
            places = side[part]
            totals = found.rows[places].sum(axis=2).astype(numpy.float32)
            present = numpy.zeros((len(places), len(found.rows)), dtype=bool)
            present[numpy.arange(len(places))[:, None], places.reshape(len(places), -1)] = True
            sides.append(totals)
            effect = found.effect(totals.sum(axis=1, dtype=float), n, present)
            effects.append(numpy.take_along_axis(effect, places.reshape(len(places), -1), 1) if found.sized else effect)
        effect = numpy.maximum(*effects)
        effect = by_size(effect.reshape(-1, *rows.shape[1:2], size).mean(axis=2)) if found.sized else effect[None]

        def counted(chosen: Array, weights: Array, share_unseen: Array, weighings: slice) -> Array:
            unseen = share_unseen[:, None]
            ours, others = (found.value(numpy.tensordot(weights, one[chosen], axes=(1, 1))) * sign for one in sides)
            seen, reach = (
                (1 - unseen) * (ours - others),
                unseen * effect[weighings if found.sized else slice(None), chosen],
            )
            holds: Array = numpy.stack([seen - reach <= truth, seen + reach >= truth])[:, None].sum(axis=2, dtype=float)
            holds[:, :, ~numpy.isfinite(seen).all(axis=0)] = math.nan
            return holds

        return counted

    return weighed(rows, found.rows.shape[1], count)


def by_size(effects: Array) -> Array:
    """Of shape (draws, clusters), to (WEIGHINGS, draws): one of each draw's clusters, in proportion to its effect."""
    ends = effects.cumsum(axis=1)
    picked = numpy.random.default_rng(SEED + 1).random(WEIGHINGS)
    places = [numpy.searchsorted(one, picked * one[-1]).clip(max=len(one) - 1) for one in ends]
    return numpy.stack([one[place] for one, place in zip(effects, places, strict=True)], axis=1)


def judge_calibration(
    gaps: Array, mine: Array, theirs: Array, truth: float, rows: Array, size: int
) -> tuple[Array, Array]:
    """The same of the calibration error, of which less is better: eval/statistics/calibration.py on all draws."""
    n = rows.shape[1] * size

    def count(part: Array) -> Count:
        totals = [gaps[side[part]].sum(axis=2).astype(numpy.float32) for side in (mine, theirs)]
        centres = [total.sum(axis=1) / n for total in totals]

        def counted(chosen: Array, weights: Array, share_unseen: Array, _: slice) -> Array:
            unseen, ends = share_unseen[:, None], []
            drawn = [numpy.tensordot(weights, one[chosen], axes=(1, 1)) / n for one in totals]
            for one, centre in zip(drawn, (side[chosen] for side in centres), strict=True):
                noise = abs(one - centre).sum(axis=-1) * (1 - unseen)
                low = numpy.maximum(abs(centre).sum(axis=-1) - noise - unseen, 0)
                ends.append((low, numpy.minimum(abs(one).sum(axis=-1) * (1 - unseen) + unseen, 1)))
            (low, high), (their_low, their_high) = ends
            apart = abs(drawn[0] - drawn[1]).sum(axis=-1) * (1 - unseen) + unseen
            above, below = (high - their_low >= truth, apart >= truth), (low - their_high <= truth, -apart <= truth)
            return numpy.array([[one.sum(axis=0, dtype=float) for one in side] for side in (above, below)])

        return counted

    return weighed(rows, gaps.shape[1], count)


def weighed(rows: Array, columns: int, count: Callable[[Array], Count]) -> tuple[Array, Array]:
    """p_above and p_below of every draw. Of one that is decided by its first weighings, since no further one can bring
    either p below ALPHA, the rest is not made, and its p is at least what is given: the share of cells is the same."""
    above, below = numpy.full(len(rows), math.nan), numpy.full(len(rows), math.nan)
    if rows.shape[1] < LEAST:
        return above, below
    drawn = numpy.random.default_rng(SEED).standard_exponential((WEIGHINGS, rows.shape[1] + 1))
    weights = (drawn[:, 1:] * (rows.shape[1] / drawn[:, 1:].sum(axis=1))[:, None]).astype(numpy.float32)
    unseen, step = drawn[:, 0] / drawn.sum(axis=1), max(1, CHUNK // (WEIGHINGS * columns))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        counted, chosen = count(part), numpy.arange(len(part))
        totals: Array = numpy.empty(0)
        for weighings in (slice(FIRST), slice(FIRST, None)):
            found = counted(chosen, weights[weighings], unseen[weighings], weighings)
            totals = totals if totals.size else numpy.zeros((*found.shape[:2], len(part)))
            totals[:, :, chosen] += found
            p = totals.shape[1] * totals.min(axis=1) / WEIGHINGS
            chosen = numpy.flatnonzero((p < ALPHA).any(axis=0))
            if not len(chosen):
                break
        above[start : start + step], below[start : start + step] = p
    return above, below
