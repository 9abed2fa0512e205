"""Rules on every slice of the test rows, against a bound or paired with a reference. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from configs.release import short
from configs.rules.slices import SliceMinimumRule
from configs.verdict import Outcome, RuleEvidence, RuleResult, SliceEvidence
from eval.rules.evidence import Evidence, Measured, slices_of
from eval.rules.paired import Unusable, bound_of_metric, direction, oriented, reference_of
from eval.rules.result import EVALUATE, result
from eval.statistics.by_metric import compare, estimate, higher_is_better
from eval.statistics.power import more_examples

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class SliceResult:
    """One slice. `figure`, `low` and `high` are of its value, or of its difference from the reference, as measured.

    `surplus`: how far the figure lies on the better side of its bound. `p_value`: one-sided, of the slice being good
    enough; `p_adjusted` by Holm over all slices. `deviation`: of one example's difference, where there is a reference.
    """

    name: str
    n: int
    figure: float
    low: float
    high: float
    p_value: float
    surplus: float
    deviation: float | None = None
    p_adjusted: float = 1.0

    @property
    def is_difference(self) -> bool:
        return self.deviation is not None

    def as_evidence(self) -> SliceEvidence:
        shared: SliceEvidence = {
            "low": self.low,
            "high": self.high,
            "p_value": self.p_value,
            "p_adjusted": self.p_adjusted,
        }
        if self.is_difference:
            return {"name": self.name, "n": self.n, "difference": self.figure, **shared}
        return {"name": self.name, "n": self.n, "value": self.figure, **shared}


def decide_slices(rule: SliceMinimumRule, measured: Measured, evidence: Evidence) -> RuleResult:
    facts: RuleEvidence = {"metric": rule.metric, "reference": rule.reference, "confidence": rule.confidence}
    other = reference_of(rule.reference, measured, evidence) if rule.reference else None
    if isinstance(other, Unusable):
        return result(rule, other.outcome, other.reason, **facts)
    theirs = other.frame if other else None
    if measured.frame is None or (rule.reference and theirs is None):
        return result(rule, "inconclusive", f"{rule.metric} has no per-example outcomes: {EVALUATE}.", **facts)
    parts = choose_slices(rule, measured.frame)
    if isinstance(parts, Unusable):
        return result(rule, parts.outcome, parts.reason, **facts)
    small = sorted(name for name, part in parts.items() if len(part) < rule.minimum_size)
    try:
        found = [measure_slice(rule, name, part, theirs) for name, part in parts.items() if name not in small]
    except ValueError as error:
        return result(rule, "inconclusive", f"The slices cannot be judged ({error}): {EVALUATE}.", **facts)
    return decide_by_worst(rule, adjust(found), small, facts)


def choose_slices(rule: SliceMinimumRule, frame: DataFrame) -> dict[str, DataFrame] | Unusable:
    """Those that the rule's patterns name, of which one at least is large enough."""
    parts = {
        name: part
        for name, part in slices_of(frame).items()
        if any(fnmatchcase(name, pattern) for pattern in rule.slices)
    }
    missing = [one for one in rule.slices if not any(fnmatchcase(name, one) for name in parts)]
    if missing:
        reason = f"No slice is named {', '.join(missing)}: see evaluate.slices, then {EVALUATE}."
        return Unusable("inconclusive", reason)
    largest = max(map(len, parts.values()))
    if largest < rule.minimum_size:
        return Unusable("inconclusive", f"No slice has {rule.minimum_size} examples: {largest} at most.")
    return parts


def measure_slice(rule: SliceMinimumRule, name: str, part: DataFrame, theirs: DataFrame | None) -> SliceResult:
    """Raises ValueError where its examples cannot be compared."""
    higher = higher_is_better(rule.metric)
    if theirs is not None and rule.margin is not None:
        paired = compare(rule.metric, part, theirs[theirs["id"].isin(part["id"])], rule.confidence, rule.margin)
        better = oriented(paired, higher)
        surplus = better.difference + rule.margin
        return SliceResult(
            name, paired.n, paired.difference, paired.low, paired.high, better.p_below, surplus, paired.deviation
        )
    bound = rule.minimum or 0.0
    found = estimate(rule.metric, part, rule.confidence, bound)
    p_value, surplus = (found.p_below, found.value - bound) if higher else (found.p_above, bound - found.value)
    return SliceResult(name, found.n, found.value, found.low, found.high, p_value, surplus)


def adjust(found: list[SliceResult]) -> list[SliceResult]:
    """Holm's correction (1979) by statsmodels; the slice with the least surplus first."""
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests([one.p_value for one in found], method="holm")[1]
    joined = [replace(one, p_adjusted=float(p)) for one, p in zip(found, adjusted, strict=True)]
    return sorted(joined, key=lambda one: (one.surplus, one.name))


def decide_by_worst(
    rule: SliceMinimumRule, found: list[SliceResult], small: list[str], facts: RuleEvidence
) -> RuleResult:
    """Fails on a slice that is shown to lie short of its bound; one that only seems to is inconclusive."""
    alpha, worst, higher = (1 - rule.confidence) / 2, found[0], higher_is_better(rule.metric)
    shown = [one for one in found if one.surplus < 0 and one.p_adjusted < alpha]
    outcome: Outcome = "fail" if shown else "inconclusive" if worst.surplus < 0 else "pass"
    named = shown[0] if shown else worst
    more = None
    if outcome == "inconclusive" and worst.deviation is not None:
        more = more_examples(worst.surplus, worst.deviation, worst.n, rule.confidence)
    facts |= {
        "bound": rule.minimum if rule.minimum is not None else bound_of_metric(-(rule.margin or 0.0), higher),
        "direction": direction(higher),
        "more_examples": more,
        "method": "one-sided p, Holm over slices",
        "low": named.low,
        "high": named.high,
        "n": named.n,
        "slices": [one.as_evidence() for one in found],
    }
    return result(rule, outcome, sentence_of(rule, len(found), named, more, small), **facts)


def sentence_of(rule: SliceMinimumRule, count: int, named: SliceResult, more: int | None, small: list[str]) -> str:
    """`named`: the slice that decides; `small`: those that are too small to be judged."""
    figure = (
        f"{named.figure:+.3f} against {short(str(rule.reference))}" if named.is_difference else f"{named.figure:.4g}"
    )
    sentence = (
        f"{count} slices judged; the worst, {named.name}, has {rule.metric} {figure} "
        f"on {named.n} examples (Holm p {named.p_adjusted:.3g})"
    )
    if more is not None:
        sentence += f"; about {more:,} more of that slice would decide"
    if small:
        sentence += f"; too small to judge: {', '.join(small[:5])}{' and others' if len(small) > 5 else ''}"
    return f"{sentence}."
