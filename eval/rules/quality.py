"""Rules on one release's own figures: thresholds, calibration, parity, quality lost by quantization. Pure; what is
missing never passes."""

from __future__ import annotations

from configs.metrics import MetricDefinition
from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.verdict import RuleResult
from eval.metrics.samples import select
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import (
    compare_metric,
    estimate_metric,
    estimate_samples,
    higher_is_better,
    mean_of,
    of_folds,
    value_of,
)
from eval.rules.interval import Found, Limit, found_of
from eval.rules.result import EVALUATE, as_object, decide_limits, finite, result
from eval.statistics.comparison import Estimate


def decide_threshold(rule: ThresholdRule | CalibrationRule, measured: Measured) -> RuleResult:
    minimum, maximum = rule.minimum if isinstance(rule, ThresholdRule) else None, rule.maximum
    value, found = (
        value_of(rule.metric, measured),
        found_of(lambda: estimate_metric(rule.metric, measured, rule.confidence)),
    )
    sides = [(minimum, True), (maximum, False)]
    limits = [Limit(rule.metric, value, bound, least, found, rule.point) for bound, least in sides if bound is not None]
    return decide_limits(rule, limits, EVALUATE, minimum=minimum, maximum=maximum)


def decide_parity(rule: ParityRule, measured: Measured) -> RuleResult:
    parity = as_object(measured.record.get("parity"))
    agreement, difference = finite(parity.get("agreement")), finite(parity.get("difference"))
    prompts, passed = parity.get("prompts"), parity.get("passed")
    if agreement is None or difference is None or not prompts or not isinstance(passed, bool):
        return result(rule, "inconclusive", f"Parity was not measured: {EVALUATE}.")
    sentence = f"{prompts} golden prompts answered {agreement:.0%} alike, mean difference {difference:.3g}."
    return result(rule, "pass" if passed else "fail", sentence, value=agreement, n=prompts, **parity)


def decide_quantization(rule: QuantizationRule, measured: Measured, evidence: Evidence) -> RuleResult:
    """A drop is the change for the worse, whichever way the metric runs."""
    metrics, limits = as_object(measured.record.get("metrics")), list[Limit]()
    parent, confidence, point = evidence.references.get("parent"), rule.confidence, rule.point
    if rule.minimum_agreement is not None:
        alike = agreement(measured, parent, confidence)
        value = finite(metrics.get("parent_agreement"))
        limits.append(Limit("agreement", value, rule.minimum_agreement, True, alike, point))
    if rule.maximum_kl_divergence is not None:
        value, nats = finite(metrics.get("parent_kl_divergence")), divergence(measured, parent, confidence)
        limits.append(Limit("KL divergence", value, rule.maximum_kl_divergence, False, nats, point))
    if rule.metric is not None and rule.maximum_drop is not None:
        change, better = finite(metrics.get(f"{rule.metric}_change")), higher_is_better(rule.metric, measured)
        drop = None if change is None else -change if better else change
        found = drop_of(rule.metric, measured, parent, confidence)
        limits.append(Limit(f"{rule.metric} drop", drop, rule.maximum_drop, False, found, point))
    return decide_limits(
        rule,
        limits,
        "against the parent: set quantize.compare_parent: true and run tunegate run CONFIG",
        reference="parent",
    )


def agreement(measured: Measured, parent: Measured | None, confidence: float) -> Found:
    """Of the share of test rows that both answered alike."""
    frame = measured.frame
    if frame is None or parent is None or parent.frame is None or "answer" not in frame:
        return None
    theirs = parent.frame.set_index("id")["answer"].astype(str)
    if {*theirs.index} != {*frame["id"]}:
        return None
    alike = frame["answer"].astype(str).to_numpy() == theirs.reindex(frame["id"]).to_numpy()
    clusters = frame.get("cluster")
    samples = frame[["id"]].assign(cluster=clusters, value=alike.astype(float))
    binary: MetricDefinition = {"kind": "binary", "low": 0, "high": 1, "higher_is_better": True}
    by_id = samples.set_index("id")["value"]

    def make() -> Estimate:
        found = estimate_samples(samples, binary, confidence)
        return of_folds(found, frame, lambda rows: mean_of(by_id, rows), (0.0, 1.0))

    return found_of(make)


def divergence(measured: Measured, parent: Measured | None, confidence: float) -> Found:
    """Of KL(parent || release), by the rows that were drawn for it."""
    if parent is None or parent.samples is None:
        return None
    samples = select(parent.samples, f"divergence:{measured.record.get('release')}", "kl_divergence")
    nats: MetricDefinition = {"kind": "unbounded", "low": 0, "high": None, "higher_is_better": False}
    return found_of(lambda: estimate_samples(samples, nats, confidence))


def drop_of(metric: str, measured: Measured, parent: Measured | None, confidence: float) -> Found:
    """The comparison with the parent, turned so that above 0 the release is worse."""
    if parent is None:
        return None

    def make() -> Estimate:
        found = compare_metric(metric, measured, parent, confidence).found
        if not higher_is_better(metric, measured):
            return found.as_estimate()
        return Estimate(-found.difference, -found.high, -found.low, confidence, found.n, found.method)

    return found_of(make)
