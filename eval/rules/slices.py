"""Rules on every slice of the test rows, against a bound or paired with a reference. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from configs.release import short
from configs.rules.slices import SliceMinimumRule
from configs.verdict import Outcome, RuleEvidence, RuleResult, SliceEvidence
from eval.rules.evidence import Evidence, Measured, part_of, slices_of
from eval.rules.figures import compare_metric, estimate_metric, higher_is_better
from eval.rules.interval import Limit, decide_interval, percent
from eval.rules.paired import NotComparable, bound_of_metric, direction, reference_of
from eval.rules.result import EVALUATE, advice, result, worst
from eval.statistics.comparison import Estimate, TooFewError
from eval.statistics.looks import confidence_of_each

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class SliceResult:
    """One slice: `found`, the interval of its figure, or of its difference from a reference, and the limit on it.

    To pass, every slice's own interval must hold, and no correction is due for that (intersection-union test: Berger
    1982). To fail, one slice's must not, at a confidence corrected for how many were judged (Bonferroni; the first
    step of Holm's is the same).
    """

    name: str
    found: Estimate
    limit: Limit
    outcome: Outcome
    is_difference: bool

    def as_evidence(self) -> SliceEvidence:
        facts: SliceEvidence = {
            "name": self.name,
            "outcome": self.outcome,
            "n": self.found.n,
            "low": self.found.low,
            "high": self.found.high,
        }
        if self.is_difference:
            return facts | {"difference": self.found.value}
        return facts | {"value": self.found.value}


def decide_slices(rule: SliceMinimumRule, measured: Measured, evidence: Evidence) -> RuleResult:
    facts: RuleEvidence = {"metric": rule.metric, "reference": rule.reference, "confidence": rule.confidence}
    other = reference_of(rule.reference, measured, evidence) if rule.reference else None
    if isinstance(other, NotComparable):
        return result(rule, other.outcome, other.reason, **facts)
    if measured.frame is None or (other is not None and other.frame is None):
        return result(rule, "inconclusive", f"{rule.metric} has no per-example outcomes: {EVALUATE}.", **facts)
    parts = choose_slices(rule, measured.frame)
    if isinstance(parts, NotComparable):
        return result(rule, parts.outcome, parts.reason, **facts)
    small = sorted(name for name, part in parts.items() if len(part) < rule.minimum_size)
    judged = {name: part["id"] for name, part in parts.items() if name not in small}
    found = []
    try:
        for name, ids in judged.items():
            theirs = part_of(other, ids) if other else None
            try:
                found.append(measure_slice(rule, name, part_of(measured, ids), theirs, len(judged)))
            except TooFewError as error:
                small, too_few = sorted([*small, name]), error
    except ValueError as error:
        return result(rule, "inconclusive", f"The slices cannot be judged ({error}): {EVALUATE}.", **facts)
    if not found:
        return result(rule, "inconclusive", f"No slice can be judged ({too_few}).", **facts)
    return decide_by_worst(rule, found, small, higher_is_better(rule.metric, measured), facts)


def choose_slices(rule: SliceMinimumRule, frame: DataFrame) -> dict[str, DataFrame] | NotComparable:
    """Those that the rule's patterns name, of which one at least is large enough."""
    parts = {
        name: part
        for name, part in slices_of(frame).items()
        if any(fnmatchcase(name, pattern) for pattern in rule.slices)
    }
    missing = [one for one in rule.slices if not any(fnmatchcase(name, one) for name in parts)]
    if missing:
        reason = f"No slice is named {', '.join(missing)}: see evaluate.slices, then {EVALUATE}."
        return NotComparable("inconclusive", reason)
    largest = max(map(len, parts.values()))
    if largest < rule.minimum_size:
        return NotComparable("inconclusive", f"No slice has {rule.minimum_size} examples: {largest} at most.")
    return parts


def measure_slice(
    rule: SliceMinimumRule, name: str, mine: Measured, theirs: Measured | None, count: int
) -> SliceResult:
    """Raises ValueError where its examples cannot be compared."""
    higher = higher_is_better(rule.metric, mine)
    bound = bound_of_metric(-(rule.margin or 0.0), higher) if rule.minimum is None else rule.minimum

    def interval(confidence: float) -> Estimate:
        if theirs is None:
            return estimate_metric(rule.metric, mine, confidence, bound)
        return compare_metric(rule.metric, mine, theirs, confidence, rule.margin or 0.0).found.as_estimate()

    own = interval(rule.confidence)
    limit = Limit(name, own.value, bound, higher, own, rule.point)
    outcome = limit.outcome
    if outcome == "fail" and count > 1 and not rule.point:
        wide = interval(confidence_of_each(rule.confidence, count))
        if decide_interval(wide.low, wide.high, bound, higher) != "fail":
            outcome = "inconclusive"
    return SliceResult(name, own, limit, outcome, theirs is not None)


def decide_by_worst(
    rule: SliceMinimumRule, found: list[SliceResult], small: list[str], higher: bool, facts: RuleEvidence
) -> RuleResult:
    """`small`: those that are too small to be judged."""
    found = sorted(found, key=lambda one: (one.limit.surplus, one.name))
    outcome = worst([one.outcome for one in found])
    named = next(one for one in found if one.outcome == outcome)
    more = named.limit.more_examples if outcome == "inconclusive" else None
    facts |= {
        "bound": named.limit.bound,
        "direction": direction(higher),
        "more_examples": more,
        "method": f"{named.found.method}; to fail, Bonferroni over {len(found)} slices",
        "low": named.found.low,
        "high": named.found.high,
        "n": named.found.n,
        "slices": [one.as_evidence() for one in found],
        "too_small": small,
        "point": rule.point or None,
    }
    figure = (
        f"{named.found.value:+.3f} against {short(str(rule.reference))}"
        if rule.reference
        else f"{named.found.value:.4g}"
    )
    interval = f"{percent(rule.confidence)} interval [{named.found.low:.4g}, {named.found.high:.4g}]"
    words = [
        f"{len(found)} slices judged; {named.name} has {rule.metric} {figure} on {named.found.n} examples "
        f"({'point figure; ' if rule.point else ''}its {interval})"
    ]
    if outcome == "inconclusive":
        words.append(f"{sum(one.outcome == outcome for one in found)} not decided{advice(outcome, more)}")
    if small:
        words.append(f"too small to judge: {', '.join(small[:5])}{' and others' if len(small) > 5 else ''}")
    return result(rule, outcome, f"{'; '.join(words)}.", **facts)
