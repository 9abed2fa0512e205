"""What every method gives: an estimate, or a comparison of two."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
