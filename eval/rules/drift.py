"""The rule on figures that are better neither way, held to a reference's from both sides. Pure."""

from __future__ import annotations

from configs.release import short
from configs.rules.paired import DriftRule
from configs.verdict import RuleResult
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import ratio_of_metric
from eval.rules.interval import Limit
from eval.rules.paired import NotComparable, reference_of
from eval.rules.result import EVALUATE, RANK, decide_limits, result


def decide_drift(rule: DriftRule, measured: Measured, evidence: Evidence) -> RuleResult:
    """By the interval of the ratio of means, which must lie within 1 / maximum_ratio and maximum_ratio."""
    other = reference_of(rule.reference, measured, evidence)
    if isinstance(other, NotComparable):
        return result(rule, other.outcome, other.reason, metric=rule.metric, reference=rule.reference)
    try:
        found = ratio_of_metric(rule.metric, measured, other, rule.confidence)
    except ValueError as error:
        reason = f"The two cannot be held against each other ({error}): {EVALUATE}."
        return result(rule, "inconclusive", reason, metric=rule.metric, reference=rule.reference)
    what = f"the ratio of {rule.metric} to {short(rule.reference)}'s"
    least, most = 1 / rule.maximum_ratio, rule.maximum_ratio
    sides = (Limit(what, found.value, least, True, found), Limit(what, found.value, most, False, found))
    decides = min(sides, key=lambda one: (RANK[one.outcome], one.surplus))
    return decide_limits(rule, [decides], EVALUATE, reference=rule.reference, minimum=least, maximum=most)
