"""Rules on what a release costs: bytes, and the load test of a deployment. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from configs.rules.cost import GoodputRule, LatencyRule, SizeRule
from configs.verdict import RuleEvidence, RuleResult
from eval.rules.evidence import Evidence, Measured
from eval.rules.interval import Limit
from eval.rules.paired import without_champion
from eval.rules.result import EVALUATE, decide_limits, finite, result

LOADTEST = "tunegate loadtest ENV"
NOTHING_ELSE = "Nothing else serves: there is no blue to be compared with."


def decide_latency(rule: LatencyRule, load: Mapping[str, object]) -> RuleResult:
    value = finite(load.get(rule.metric))
    limits = [counted(rule.metric, value, rule.maximum, False)] if rule.maximum is not None else []
    return decide_load_limits(rule, limits, value, rule.maximum_ratio, False, load)


def decide_goodput(rule: GoodputRule, load: Mapping[str, object]) -> RuleResult:
    value = finite(load.get(rule.metric))
    limits = [counted(rule.metric, value, rule.minimum, True)] if rule.minimum is not None else []
    if rule.maximum_error_rate is not None:
        limits.append(counted("error_rate", finite(load.get("error_rate")), rule.maximum_error_rate, False))
    return decide_load_limits(rule, limits, value, rule.minimum_ratio, True, load)


def counted(what: str, value: float | None, bound: float, least: bool) -> Limit:
    """Of what is counted once: bytes, or a percentile of one load test. It has no interval."""
    return Limit(what, value, bound, least, point=True)


def decide_load_limits(
    rule: LatencyRule | GoodputRule,
    limits: list[Limit],
    value: float | None,
    times: float | None,
    least: bool,
    load: Mapping[str, object],
) -> RuleResult:
    """A first release has no blue to be slower than: `blue_absent` says so, and only the absolute limits are asked
    for."""
    facts: RuleEvidence = {"n": finite(load.get("requests")), "reference": rule.relative_to}
    if times is not None and load.get("blue_absent"):
        return decide_limits(rule, limits, LOADTEST, **facts) if limits else result(rule, "pass", NOTHING_ELSE, **facts)
    if times is not None:
        limits.append(counted(f"{rule.metric} by blue's", ratio(value, load, rule.metric), times, least))
    return decide_limits(rule, limits, LOADTEST, **facts)


def ratio(value: float | None, load: Mapping[str, object], metric: str) -> float | None:
    """Blue's figures of the same load lie beside green's, as `blue_METRIC`."""
    blue = finite(load.get(f"blue_{metric}"))
    return value / blue if value is not None and blue else None


def decide_size(rule: SizeRule, measured: Measured, evidence: Evidence) -> RuleResult:
    size = finite(measured.record.get("size_bytes"))
    if rule.maximum_bytes is not None:
        return decide_limits(rule, [counted("bytes of weights", size, rule.maximum_bytes, False)], EVALUATE)
    if rule.relative_to == "champion" and evidence.champion is None:
        missing = without_champion(evidence, "larger")
        return result(rule, missing.outcome, missing.reason)
    other = evidence.references.get(str(rule.relative_to))
    theirs = finite(other.record.get("size_bytes")) if other else None
    if rule.relative_to == "champion" and other and other.record.get("release") != evidence.champion:
        theirs = None
    ratio = size / theirs if size is not None and theirs else None
    return decide_limits(
        rule,
        [counted(f"size by the {rule.relative_to}'s", ratio, rule.maximum_ratio or 0.0, False)],
        EVALUATE,
        reference=rule.relative_to,
    )
