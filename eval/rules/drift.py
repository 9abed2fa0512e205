"""The rule on figures that are better neither way, held to a reference's from both sides. Pure."""

from __future__ import annotations

from configs.release import short
from configs.rules.paired import DriftRule
from configs.verdict import RuleEvidence, RuleResult
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import ratio_of_metric
from eval.rules.interval import Limit
from eval.rules.paired import NotComparable, reference_of
from eval.rules.result import EVALUATE, RANK, decide_limits, result
from eval.statistics.comparison import TooFewError


def decide_drift(rule: DriftRule, measured: Measured, evidence: Evidence) -> RuleResult:
    """By the interval of the ratio of means, which must lie within 1 / maximum_ratio and maximum_ratio."""
    facts: RuleEvidence = {"metric": rule.metric, "reference": rule.reference}
    other = reference_of(rule.reference, measured, evidence)
    if isinstance(other, NotComparable):
        return result(rule, other.outcome, other.reason, **facts)
    try:
        found = ratio_of_metric(rule.metric, measured, other, rule.confidence)
    except TooFewError as error:
        reason = f"Too few for an interval ({error}): {error.more:,} more make one."
        return result(rule, "inconclusive", reason, more_examples=error.more, **facts)
    except ValueError as error:
        reason = f"The examples cannot be paired ({error}): {EVALUATE}."
        return result(rule, "inconclusive", reason, **facts)
    what = f"the ratio of {rule.metric} to {short(rule.reference)}'s"
    least, most = 1 / rule.maximum_ratio, rule.maximum_ratio
    sides = (Limit(what, found.value, least, True, found), Limit(what, found.value, most, False, found))
    decides = min(sides, key=lambda one: (RANK[one.outcome], one.surplus))
    return decide_limits(rule, [decides], EVALUATE, reference=rule.reference, minimum=least, maximum=most)
