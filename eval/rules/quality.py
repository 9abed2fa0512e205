"""Rules on one release's own figures: thresholds, calibration, parity, quality lost by quantization. Pure; what is
missing never passes."""

from __future__ import annotations

import math

from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.verdict import Outcome, RuleEvidence, RuleResult
from eval.rules.evidence import Measured
from eval.rules.result import EVALUATE, Limit, advice, as_object, decide_limits, finite, result, worst
from eval.statistics.by_metric import estimate, higher_is_better
from eval.statistics.comparison import Estimate
from eval.statistics.power import more_examples, normal


def decide_threshold(rule: ThresholdRule | CalibrationRule, measured: Measured) -> RuleResult:
    minimum, maximum = rule.minimum if isinstance(rule, ThresholdRule) else None, rule.maximum
    value = finite(as_object(measured.record.get("metrics")).get(rule.metric))
    facts: RuleEvidence = {
        "metric": rule.metric,
        "minimum": minimum,
        "maximum": maximum,
        "bound": minimum if minimum is not None else maximum,
        "direction": "at least" if minimum is not None else "at most",
    }
    if value is None:
        return result(rule, "inconclusive", f"{rule.metric} is missing or not a finite number: {EVALUATE}.", **facts)
    found = interval_of(rule.metric, measured, rule.confidence)
    facts["value"] = value
    if found:
        facts |= {
            "low": found.low,
            "high": found.high,
            "confidence": found.confidence,
            "n": found.n,
            "method": found.method,
        }
    if rule.confident:
        return decide_confidently(rule, found, minimum, maximum, facts)
    inside = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
    ranged = (
        f"; its {rule.confidence:.0%} interval is [{found.low:.4g}, {found.high:.4g}] on {found.n} examples"
        if found
        else ""
    )
    return result(rule, "pass" if inside else "fail", f"{rule.metric} is {value:.4g}{ranged}.", **facts)


def decide_confidently(
    rule: ThresholdRule | CalibrationRule,
    found: Estimate | None,
    minimum: float | None,
    maximum: float | None,
    facts: RuleEvidence,
) -> RuleResult:
    if found is None:
        return result(
            rule,
            "inconclusive",
            f"{rule.metric} has no interval, for its examples are missing or not finite numbers: {EVALUATE}.",
            **facts,
        )
    sides = [(found.low - minimum, found.high - minimum, found.value - minimum)] if minimum is not None else []
    sides += [(maximum - found.high, maximum - found.low, maximum - found.value)] if maximum is not None else []
    outcomes: list[Outcome] = [
        "pass" if nearest >= 0 else "fail" if farthest < 0 else "inconclusive" for nearest, farthest, _ in sides
    ]
    outcome, deviation = worst(outcomes), (found.high - found.low) * math.sqrt(found.n) / (2 * normal(found.confidence))
    spanned = [distance for (_, _, distance), one in zip(sides, outcomes, strict=True) if one == "inconclusive"]
    more = (
        more_examples(min(spanned, key=abs), deviation, found.n, found.confidence)
        if outcome == "inconclusive" and spanned
        else None
    )
    words = {"pass": "lies inside", "fail": "lies outside", "inconclusive": "spans the bound"}[outcome]
    interval = f"{found.confidence:.0%} interval [{found.low:.4g}, {found.high:.4g}]"
    sentence = (
        f"{rule.metric} is {found.value:.4g} on {found.n} examples; its {interval} {words}{advice(outcome, more)}."
    )
    return result(rule, outcome, sentence, **facts, more_examples=more)


def interval_of(metric: str, measured: Measured, confidence: float) -> Estimate | None:
    """None where the examples are not there, or the metric is not made of them."""
    if measured.frame is None:
        return None
    try:
        return estimate(metric, measured.frame, confidence)
    except ValueError:
        return None


def decide_parity(rule: ParityRule, measured: Measured) -> RuleResult:
    parity = as_object(measured.record.get("parity"))
    agreement, difference = finite(parity.get("agreement")), finite(parity.get("difference"))
    prompts, passed = parity.get("prompts"), parity.get("passed")
    if agreement is None or difference is None or not prompts or not isinstance(passed, bool):
        return result(rule, "inconclusive", f"Parity was not measured: {EVALUATE}.")
    sentence = f"{prompts} golden prompts answered {agreement:.0%} alike, mean difference {difference:.3g}."
    return result(rule, "pass" if passed else "fail", sentence, value=agreement, n=prompts, **parity)


def decide_quantization(rule: QuantizationRule, measured: Measured) -> RuleResult:
    """A drop is the change for the worse, whichever way the metric runs."""
    metrics, limits = as_object(measured.record.get("metrics")), list[Limit]()
    if rule.minimum_agreement is not None:
        limits.append(("agreement", finite(metrics.get("parent_agreement")), rule.minimum_agreement, True))
    if rule.maximum_kl_divergence is not None:
        limits.append(("KL divergence", finite(metrics.get("parent_kl_divergence")), rule.maximum_kl_divergence, False))
    if rule.metric is not None and rule.maximum_drop is not None:
        change = finite(metrics.get(f"{rule.metric}_change"))
        drop = None if change is None else -change if higher_is_better(rule.metric) else change
        limits.append((f"{rule.metric} drop", drop, rule.maximum_drop, False))
    command = "set quantize.compare_parent: true and run tunegate run CONFIG"
    return decide_limits(rule, limits, f"against the parent: {command}", reference="parent", n=measured.record.get("n"))
