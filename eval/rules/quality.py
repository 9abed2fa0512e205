"""Rules on one release's own figures: thresholds, calibration, parity, damage by quantization, size. Pure; what is missing never passes."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from configs.rules.cost import SizeRule
from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.verdict import Outcome, RuleResult
from eval.rules.evidence import Evidence, Measured
from eval.statistics.by_metric import estimate, higher_is_better
from eval.statistics.power import more_examples, normal
from eval.statistics.proportions import Estimate

EVALUATE = "tunegate evaluate CONFIG"
Limit = tuple[str, float | None, float, bool]  # what, its figure, its bound, whether that is the least (else the most) it may be
RANK: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


def result(rule: Any, outcome: Outcome, sentence: str, **evidence: Any) -> RuleResult:
    """`kind` always; figures that are None or not finite are left out."""
    kept = {name: one for name, one in evidence.items() if one is not None and not (isinstance(one, float) and not math.isfinite(one))}
    return RuleResult(rule=rule.name, outcome=outcome, sentence=sentence, evidence={"kind": rule.rule, **kept})


def number(value: Any) -> float | None:
    """None for anything that is not a finite number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def section(measured: Measured, name: str) -> dict[str, Any]:
    found = measured.record.get(name)
    return found if isinstance(found, dict) else {}


def worst(outcomes: list[Outcome]) -> Outcome:
    """Of no outcome at all: inconclusive."""
    return min(outcomes, key=RANK.__getitem__, default="inconclusive")


def decide_threshold(rule: ThresholdRule | CalibrationRule, measured: Measured) -> RuleResult:
    minimum, maximum = rule.minimum if isinstance(rule, ThresholdRule) else None, rule.maximum
    value = number(section(measured, "metrics").get(rule.metric))
    bound = {"bound": minimum if minimum is not None else maximum, "direction": "at least" if minimum is not None else "at most"}
    facts = {"metric": rule.metric, "minimum": minimum, "maximum": maximum, **bound}
    if value is None:
        return result(rule, "inconclusive", f"{rule.metric} is missing or not a finite number: {EVALUATE}.", **facts)
    found = interval_of(rule.metric, measured, rule.confidence)
    facts |= {"value": value} | ({"low": found.low, "high": found.high, "confidence": found.confidence, "n": found.n, "method": found.method} if found else {})
    if rule.confident:
        return decide_confidently(rule, found, minimum, maximum, facts)
    inside = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
    ranged = f"; its {rule.confidence:.0%} interval is [{found.low:.4g}, {found.high:.4g}] on {found.n} examples" if found else ""
    return result(rule, "pass" if inside else "fail", f"{rule.metric} is {value:.4g}{ranged}.", **facts)


def decide_confidently(
    rule: ThresholdRule | CalibrationRule, found: Estimate | None, minimum: float | None, maximum: float | None, facts: dict[str, Any]
) -> RuleResult:
    if found is None:
        return result(rule, "inconclusive", f"{rule.metric} has no interval, for its examples are missing or not finite numbers: {EVALUATE}.", **facts)
    sides = [(found.low - minimum, found.high - minimum, found.value - minimum)] if minimum is not None else []
    sides += [(maximum - found.high, maximum - found.low, maximum - found.value)] if maximum is not None else []
    outcomes: list[Outcome] = ["pass" if nearest >= 0 else "fail" if farthest < 0 else "inconclusive" for nearest, farthest, _ in sides]
    outcome, deviation = worst(outcomes), (found.high - found.low) * math.sqrt(found.n) / (2 * normal(found.confidence))
    spanned = [distance for (_, _, distance), one in zip(sides, outcomes, strict=True) if one == "inconclusive"]
    more = more_examples(min(spanned, key=abs), deviation, found.n, found.confidence) if outcome == "inconclusive" and spanned else None
    words = {"pass": "lies inside", "fail": "lies outside", "inconclusive": "spans the bound"}[outcome]
    interval = f"{found.confidence:.0%} interval [{found.low:.4g}, {found.high:.4g}]"
    sentence = f"{rule.metric} is {found.value:.4g} on {found.n} examples; its {interval} {words}{advice(outcome, more)}."
    return result(rule, outcome, sentence, **facts, more_examples=more)


def advice(outcome: Outcome, more: int | None) -> str:
    if outcome != "inconclusive":
        return ""
    return f", and about {more:,} more examples would decide" if more is not None else ", and no number of examples would decide: it is too near"


def interval_of(metric: str, measured: Measured, confidence: float) -> Estimate | None:
    """None where the examples are not there, or the metric is not made of them."""
    if measured.frame is None:
        return None
    try:
        return estimate(metric, measured.frame, confidence)
    except ValueError:
        return None


def decide_parity(rule: ParityRule, measured: Measured) -> RuleResult:
    parity = section(measured, "parity")
    agreement, difference = number(parity.get("agreement")), number(parity.get("difference"))
    if agreement is None or difference is None or not parity.get("prompts") or not isinstance(parity.get("passed"), bool):
        return result(rule, "inconclusive", f"Parity was not measured: {EVALUATE}.")
    sentence = f"{parity['prompts']} golden prompts answered {agreement:.0%} alike, mean difference {difference:.3g}."
    return result(rule, "pass" if parity["passed"] else "fail", sentence, value=agreement, n=parity["prompts"], **parity)


def decide_quantization(rule: QuantizationRule, measured: Measured) -> RuleResult:
    """A drop is the change for the worse, whichever way the metric runs."""
    metrics, limits = section(measured, "metrics"), list[Limit]()
    if rule.minimum_agreement is not None:
        limits.append(("agreement", number(metrics.get("parent_agreement")), rule.minimum_agreement, True))
    if rule.maximum_kl_divergence is not None:
        limits.append(("KL divergence", number(metrics.get("parent_kl_divergence")), rule.maximum_kl_divergence, False))
    if rule.metric is not None and rule.maximum_drop is not None:
        change = number(metrics.get(f"{rule.metric}_change"))
        drop = None if change is None else -change if higher_is_better(rule.metric) else change
        limits.append((f"{rule.metric} drop", drop, rule.maximum_drop, False))
    command = "set quantize.compare_parent: true and run tunegate run CONFIG"
    return decide_limits(rule, limits, f"against the parent: {command}", reference="parent", n=measured.record.get("n"))


def decide_size(rule: SizeRule, measured: Measured, evidence: Evidence) -> RuleResult:
    size = number(measured.record.get("size_bytes"))
    if rule.maximum_bytes is not None:
        return decide_limits(rule, [("bytes of weights", size, rule.maximum_bytes, False)], EVALUATE)
    if rule.relative_to == "champion" and evidence.champion is None:
        return result(rule, "pass", "Nothing is pinned in production: a first release has no champion to be larger than.")
    other = evidence.references.get(str(rule.relative_to))
    theirs = number(other.record.get("size_bytes")) if other else None
    if rule.relative_to == "champion" and other and other.record.get("release") != evidence.champion:
        theirs = None
    ratio = size / theirs if size is not None and theirs else None
    return decide_limits(rule, [(f"size by the {rule.relative_to}'s", ratio, rule.maximum_ratio or 0.0, False)], EVALUATE, reference=rule.relative_to)


def decide_limits(rule: Any, limits: list[Limit], missing: str, **facts: Any) -> RuleResult:
    """All must hold; a missing figure is inconclusive."""
    outcomes: list[Outcome] = []
    for _, value, bound, least in limits:
        outcomes.append("inconclusive" if value is None else "pass" if (value >= bound if least else value <= bound) else "fail")
    words = [f"{what} is {value:.4g}" if value is not None else f"{what} was not measured ({missing})" for what, value, _, _ in limits]
    shown = next((limit for limit, one in zip(limits, outcomes, strict=True) if one == worst(outcomes)), None)
    if shown:
        facts |= {"metric": shown[0], "value": shown[1], "bound": shown[2], "direction": "at least" if shown[3] else "at most"}
    return result(rule, worst(outcomes), f"{'; '.join(words) or f'Nothing was measured ({missing})'}.", **facts)


def describe(found: Any) -> dict[str, Any]:
    """A comparison as evidence."""
    return {name: one for name, one in asdict(found).items() if name not in ("deviation", "p_worse", "p_below")}
