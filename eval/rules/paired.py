"""Rules that compare with another release, paired on the same examples: non-inferiority and superiority. Pure.

Figures are as measured, release minus reference, and so is the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.metrics import why_not_comparable
from configs.release import short
from configs.rules.paired import NonInferiorRule, SuperiorRule
from configs.verdict import Outcome, RuleEvidence, RuleResult
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import compare_metric, higher_is_better
from eval.rules.interval import decide_interval, percent
from eval.rules.result import EVALUATE, advice, describe, result
from eval.statistics.comparison import Comparison, TooFewError
from eval.statistics.power import more_examples, power_to_pass

# What has to be done for these references to be measured.
MEASURED_BY = {
    "base": "set evaluate.baseline: true and run tunegate evaluate CONFIG",
    "parent": "set quantize.compare_parent: true and run tunegate run CONFIG",
}


@dataclass(frozen=True)
class NotComparable:
    """Nothing can be compared: the rule's outcome, and why."""

    outcome: Outcome
    reason: str


def reference_of(reference: str, measured: Measured, evidence: Evidence) -> Measured | NotComparable:
    """What was measured of the reference on the same rows, or why it is not to be compared with."""
    known = "the " + reference if reference in ("champion", "base", "parent") else short(reference)
    if reference == "champion" and evidence.champion is None:
        return without_champion(evidence, "worse")
    other = evidence.references.get(reference)
    if other is None:
        command = {"champion": f"tunegate releases fetch {evidence.champion}", **MEASURED_BY}.get(reference, EVALUATE)
        return NotComparable("inconclusive", f"No evaluation of {known} was found: {command}.")
    found = other.record.get("release")
    wanted = evidence.champion if reference == "champion" else reference if "@" in reference else None
    if wanted is not None and found != wanted:
        return NotComparable("fail", f"The evaluation of {known} is of {found}, not of {wanted}.")
    if reference == "base" and evidence.base is not None and not str(found).endswith(evidence.base):
        return NotComparable("fail", f"The base's evaluation is of {found}, not of {evidence.base}: {EVALUATE}.")
    if reference == "parent" and evidence.parent is not None and not str(found).endswith(evidence.parent):
        return NotComparable("fail", f"The parent's evaluation is of {found}, not of {evidence.parent}: {EVALUATE}.")
    if reason := why_not_comparable(measured.record, other.record):
        return NotComparable("inconclusive", f"{known[:1].upper()}{known[1:]} {reason}: {EVALUATE}.")
    return other


def without_champion(evidence: Evidence, than: str) -> NotComparable:
    """Only an environment that has never served anything has none."""
    if evidence.environment is None:
        return NotComparable(
            "inconclusive",
            "No environment is named, so nobody knows the champion: tunegate gate CONFIG --production ENV.",
        )
    return NotComparable("pass", f"No champion: {evidence.environment} has never served anything to be {than} than.")


def bound_of_metric(bound: float, higher: bool) -> float:
    """An oriented bound in the metric's own direction; never -0."""
    return 0.0 + (bound if higher else -bound)


def direction(higher: bool) -> str:
    """Of a bound in the metric's own direction."""
    return "at least" if higher else "at most"


def decide_comparison(rule: NonInferiorRule | SuperiorRule, measured: Measured, evidence: Evidence) -> RuleResult:
    facts: RuleEvidence = {"metric": rule.metric, "reference": rule.reference, "margin": rule.margin}
    other = reference_of(rule.reference, measured, evidence)
    if isinstance(other, NotComparable):
        return result(rule, other.outcome, other.reason, **facts)
    try:
        compared = compare_metric(rule.metric, measured, other, rule.confidence, rule.margin)
    except TooFewError as error:
        words = f"Too few for an interval ({error}): {error.more:,} more make one."
        return result(rule, "inconclusive", words, more_examples=error.more, **facts)
    except ValueError as error:
        return result(rule, "inconclusive", f"The examples cannot be paired ({error}): {EVALUATE}.", **facts)
    found, higher = compared.found, higher_is_better(rule.metric, measured)
    facts |= {"value": compared.value, "reference_value": compared.reference_value}
    # Better by more than the margin is more than at least the margin.
    bound = math.nextafter(rule.margin, math.inf) if isinstance(rule, SuperiorRule) else -rule.margin
    in_metric = bound_of_metric(bound, higher)
    outcome = decide_interval(found.low, found.high, in_metric, higher)
    facts |= describe(found)
    facts |= {"bound": bound_of_metric(rule.margin if isinstance(rule, SuperiorRule) else bound, higher)}
    facts["direction"] = direction(higher)
    if compared.left_out:
        facts["left_out"] = compared.left_out
    if outcome == "inconclusive":
        distance = (found.difference - in_metric) * (1 if higher else -1)
        facts["more_examples"] = more_examples(
            distance, found.deviation, found.n, rule.confidence, found.scale, found.pairs(higher)
        )
    if isinstance(rule, NonInferiorRule):
        facts["power"] = power_to_pass(
            rule.margin, found.deviation, found.n, rule.confidence, found.scale, found.pairs(higher)
        )
    return result(rule, outcome, sentence_of(rule.metric, found, facts, outcome, higher), **facts)


def sentence_of(metric: str, found: Comparison, facts: RuleEvidence, outcome: Outcome, higher: bool) -> str:
    sides = {
        "pass": "lies above" if higher else "lies below",
        "fail": "lies below" if higher else "lies above",
        "inconclusive": "spans",
    }
    interval = f"{percent(found.confidence)} interval [{found.low:+.3f}, {found.high:+.3f}]"
    least, alone = found.minimum_detectable_effect, facts.get("left_out")
    seen = f" A difference of {least:.3f} would be seen with 80% power." if least is not None else ""
    left = f" ({alone} that only one of the two has are left out)" if alone else ""
    return (
        f"{metric} differs by {found.difference:+.3f} on {found.n} examples{left}; "
        f"its {interval} {sides[outcome]} {facts['bound']:+.3f}{advice(outcome, facts.get('more_examples'))}.{seen}"
    )
