"""What every method gives: an estimate, or a comparison of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

LEAST_HELD_OUT = 50  # rows: of 20 in 20 dimensions 4% lay below both (benchmarks/eval/folds.py)
FOLDS_METHOD = "corrected resampled t of {} folds"
LEAST_P = 1e-300  # no evidence is so strong that its p is 0


class TooFewError(ValueError):
    """No interval can be had of so few examples, or clusters; of `more` besides there is one."""

    def __init__(self, what: str, found: int, least: int, of: str = "") -> None:
        super().__init__(f"{found} {what}, fewer than {least}{of}")
        self.more = least - found


@dataclass(frozen=True)
class Comparison:
    """release minus reference in the metric's own unit, over n shared examples. `deviation`: of one example's
    difference; nan where none was seen. `p_below`: one-sided p, small where the difference is shown to lie below the
    bound it was held against; `p_above`: above it. They do not add up to 1. `scale`: how far an
    example that nobody saw may lie from the others.

    A two-sided interval of confidence c spends (1 - c) / 2 on each side: at 0.95 the gate calls a release non-inferior
    falsely in 2.5% of cases.
    """

    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    p_below: float
    p_above: float
    n: int
    deviation: float
    method: str
    minimum_detectable_effect: float | None = None
    gained: int | None = None
    lost: int | None = None
    scale: float = 1.0
    clusters: int | None = None  # None: every example is one of its own

    def pairs(self, higher_is_better: bool) -> tuple[int, int] | None:
        """How many independent pairs of outcomes the release won, and lost; None of other values."""
        if self.gained is None or self.lost is None or self.clusters is not None:
            return None
        return (self.gained, self.lost) if higher_is_better else (self.lost, self.gained)

    def as_estimate(self) -> Estimate:
        """Of the difference."""
        return Estimate(
            self.difference,
            self.low,
            self.high,
            self.confidence,
            self.n,
            self.method,
            self.p_below,
            self.p_above,
            self.deviation,
            self.scale,
        )


@dataclass(frozen=True)
class Estimate:
    """One system's figure over n examples. `p_below`: one-sided p, small where it is shown to lie below the bound that
    it was held against; `p_above`: above it. `deviation` and `scale` as in Comparison."""

    value: float
    low: float
    high: float
    confidence: float
    n: int
    method: str
    p_below: float = math.nan
    p_above: float = math.nan
    deviation: float = math.nan
    scale: float = 1.0


Found = TypeVar("Found", Estimate, Comparison)


def widen_by_folds(
    found: Found, figures: Sequence[float], limits: tuple[float, float], bound: float = math.nan
) -> Found:
    """An interval of rows that were each held out once, answered by K models of which none saw its own
    (cross-validation), made as wide as the models' differing asks for.

    No estimate of the variance of cross-validation is unbiased (Bengio and Grandvalet 2004). The rows' own interval
    holds where a training hardly changes with its rows (Bayle et al. 2020, arXiv:2007.12671), and is too narrow where
    it does (Bates, Hastie and Tibshirani 2023). The folds' figures show whether it does: the corrected resampled t
    (Nadeau and Bengio 2003), with K - 1 degrees of freedom and (1 / K + 1 / (K - 1)) for 1 / K, as training sets
    overlap. By itself it is of no width where all folds are equal, so the ends are the wider ones of the two.

    `figures`: of each fold what `found` is of all rows; one that is no number is left out. `limits`: what the
    figure may be. `bound`: that of p_below and p_above. Raises TooFewError of fewer than LEAST_HELD_OUT rows, or two
    folds with a figure.
    """
    import numpy
    from scipy.stats import t

    if found.n < LEAST_HELD_OUT:
        raise TooFewError("rows held out by folds", found.n, LEAST_HELD_OUT)
    known = [one for one in figures if math.isfinite(one)]
    count = len(known)
    if count < 2:
        raise TooFewError("folds with a figure", count, 2)
    value = found.value if isinstance(found, Estimate) else found.difference
    error = math.sqrt(1 / count + 1 / (count - 1)) * float(numpy.std(known, ddof=1))
    reach = error * float(t.ppf((1 + found.confidence) / 2, count - 1))

    def at_most(p: float, distance: float) -> float:
        return max(p, float(t.sf(distance / error, count - 1))) if error > 0 and math.isfinite(distance) else p

    ends: dict[str, Any] = {
        "low": max(min(found.low, value - reach), min(found.low, limits[0])),
        "high": min(max(found.high, value + reach), max(found.high, limits[1])),
        "p_below": at_most(found.p_below, bound - value),
        "p_above": at_most(found.p_above, value - bound),
        "deviation": max(error * math.sqrt(found.n), found.deviation),  # which may be no number
    }
    method = f"{found.method}; the wider of it and the {FOLDS_METHOD.format(count)}"
    if isinstance(found, Estimate):
        return replace(found, **ends, method=method)
    p_value = min(1.0, 2 * at_most(found.p_value / 2, abs(value)))
    return replace(found, **ends, method=method, p_value=p_value, clusters=count)
