"""The one decision of every rule: where an interval lies to a bound. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from configs.verdict import Outcome, RuleEvidence
from eval.statistics.comparison import Estimate, TooFewError
from eval.statistics.power import critical_value, more_examples


def decide_interval(low: float, high: float, bound: float, higher_is_better: bool) -> Outcome:
    """pass: every value from low to high is at least as good as the bound; fail: none of them is; inconclusive: some
    are, or an end is no number."""
    if math.isnan(low) or math.isnan(high) or math.isnan(bound) or low > high:
        return "inconclusive"
    worst, best = (low, high) if higher_is_better else (-high, -low)
    least = bound if higher_is_better else -bound
    return "pass" if worst >= least else "fail" if best < least else "inconclusive"


Shown = Literal["better", "worse", "different", "unclear"]


def shown(low: float, high: float, higher_is_better: bool | None) -> Shown:
    """What the interval of a difference shows: nothing, where it holds 0. `higher_is_better` None: neither way is."""
    if higher_is_better is None:
        return "unclear" if shown(low, high, True) == "unclear" else "different"
    least = math.ulp(0.0)
    if decide_interval(low, high, least if higher_is_better else -least, higher_is_better) == "pass":
        return "better"
    return "worse" if decide_interval(low, high, 0.0, higher_is_better) == "fail" else "unclear"


def percent(confidence: float) -> str:
    """95% of 0.95, 97.47% of 0.9747."""
    return f"{100 * confidence:.4g}%"


Found = Estimate | TooFewError | None  # an interval; why there is none of so few examples; None: of none at all


def found_of(make: Callable[[], Estimate]) -> Found:
    try:
        return make()
    except TooFewError as error:
        return error
    except ValueError:
        return None


@dataclass(frozen=True)
class Limit:
    """A figure and the bound that it is held to: the least that it may be, or the most. `value` None: not measured.

    `found`: its interval. `point`: the figure decides.
    """

    what: str
    value: float | None
    bound: float
    least: bool
    found: Found = None
    point: bool = False

    @property
    def interval(self) -> Estimate | None:
        return self.found if isinstance(self.found, Estimate) else None

    @property
    def outcome(self) -> Outcome:
        if self.value is None:
            return "inconclusive"
        if self.point:
            return decide_interval(self.value, self.value, self.bound, self.least)
        found = self.interval
        return decide_interval(found.low, found.high, self.bound, self.least) if found else "inconclusive"

    @property
    def surplus(self) -> float:
        """How far the figure lies on the better side of its bound; -inf where there is no figure."""
        return -math.inf if self.value is None else (self.value - self.bound) * (1 if self.least else -1)

    @property
    def more_examples(self) -> int | None:
        """About how many more would decide, or make an interval; None where it is decided, or no number would."""
        found = self.interval
        if isinstance(self.found, TooFewError) and self.value is not None and not self.point:
            return self.found.more
        if self.outcome != "inconclusive" or found is None or not math.isfinite(self.surplus):
            return None
        deviation = found.deviation
        if not deviation > 0:
            deviation = (found.high - found.low) * math.sqrt(found.n) / (2 * critical_value(found.confidence))
        return more_examples(self.surplus, deviation, found.n, found.confidence, found.scale)

    def words(self, missing: str) -> str:
        """`missing`: the command where it was not measured, or has no examples."""
        if self.value is None:
            return f"{self.what} was not measured ({missing})"
        figure, found = f"{self.what} is {self.value:.4g}", self.interval
        if isinstance(self.found, TooFewError) and not self.point:
            return f"{figure}, of too few for an interval ({self.found}): {self.found.more:,} more make one"
        if found is None:
            return figure if self.point else f"{figure}, of which no interval can be made ({missing}, or point: true)"
        interval = f"its {percent(found.confidence)} interval [{found.low:.4g}, {found.high:.4g}]"
        if self.point:
            return f"{figure} on {found.n} examples (point figure; {interval})"
        lies = {"pass": "lies inside", "fail": "lies outside", "inconclusive": f"spans {self.bound:.4g}"}
        return f"{figure} on {found.n} examples; {interval} {lies[self.outcome]}"

    def evidence(self) -> RuleEvidence:
        facts: RuleEvidence = {
            "metric": self.what,
            "value": self.value,
            "bound": self.bound,
            "direction": "at least" if self.least else "at most",
            "more_examples": self.more_examples,
        }
        if found := self.interval:
            facts |= {
                "low": found.low,
                "high": found.high,
                "confidence": found.confidence,
                "n": found.n,
                "method": found.method,
            }
        return facts | {"point": True} if self.point else facts
