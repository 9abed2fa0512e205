"""Evidence and rules in, a verdict out. Pure."""

from __future__ import annotations

from typing import Any

from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.rules.cost import GoodputRule, LatencyRule, SizeRule
from configs.rules.gate import GateConfig
from configs.rules.paired import DriftRule, NonInferiorRule, SuperiorRule
from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.rules.slices import SliceMinimumRule
from configs.verdict import RuleResult, Verdict, conjunction
from eval.rules.behaviour import decide_behaviour
from eval.rules.cost import decide_goodput, decide_latency, decide_size
from eval.rules.drift import decide_drift
from eval.rules.evidence import Evidence, held_out
from eval.rules.paired import decide_comparison
from eval.rules.quality import decide_parity, decide_quantization, decide_threshold
from eval.rules.result import EVALUATE, finite, result
from eval.rules.slices import decide_slices


def decide(rules: GateConfig, evidence: Evidence) -> Verdict:
    """Pure. Missing, NaN or mismatched evidence never passes."""
    results = [decide_rule(rule, evidence) for rule in rules.rules]
    dataset = evidence.measured.record.get("dataset") if evidence.measured else None
    outcome = conjunction(results)
    return Verdict(
        release=evidence.release,
        champion=evidence.champion,
        outcome=outcome,
        results=results,
        dataset=dataset,
        changes=changes(evidence),
        held_out=held_out(evidence),
    )


def decide_load(rules: GateConfig, reference: str, load: dict[str, float]) -> Verdict:
    """The rules of a deployment's load test, blue's figures as `blue_*`; a file of none is inconclusive."""
    evidence = Evidence(release=reference, measured=None, load=load)
    results = [decide_rule(rule, evidence) for rule in rules.rules if isinstance(rule, LatencyRule | GoodputRule)]
    return Verdict(release=reference, outcome=conjunction(results), results=results)


def decide_rule(rule: Any, evidence: Evidence) -> RuleResult:
    if isinstance(rule, LatencyRule):
        return decide_latency(rule, evidence.load or {})
    if isinstance(rule, GoodputRule):
        return decide_goodput(rule, evidence.load or {})
    measured = evidence.measured
    if measured is None:
        return result(rule, "inconclusive", f"The release has not been evaluated: {EVALUATE}.")
    if measured.record.get("release") != evidence.release:
        return result(
            rule, "fail", f"The evaluation is of {measured.record.get('release')}, not of this release: {EVALUATE}."
        )
    match rule:
        case ThresholdRule() | CalibrationRule():
            return decide_threshold(rule, measured)
        case NonInferiorRule() | SuperiorRule():
            return decide_comparison(rule, measured, evidence)
        case DriftRule():
            return decide_drift(rule, measured, evidence)
        case SliceMinimumRule():
            return decide_slices(rule, measured, evidence)
        case RobustnessRule() | FairnessRule():
            return decide_behaviour(rule, measured)
        case QuantizationRule():
            return decide_quantization(rule, measured, evidence)
        case SizeRule():
            return decide_size(rule, measured, evidence)
        case ParityRule():
            return decide_parity(rule, measured)
    raise TypeError(f"{rule!r}: a rule that nobody decides")


def changes(evidence: Evidence) -> dict[str, dict[str, float | None]]:
    """Every metric of the release beside the same of its references; what compares with the parent is no metric of its
    own."""
    if evidence.measured is None or evidence.measured.record.get("release") != evidence.release:
        return {}
    dataset, derived = evidence.measured.record.get("dataset"), evidence.measured.record.get("compared") or []
    same = {name: one for name, one in evidence.references.items() if dataset and one.record.get("dataset") == dataset}
    sides = {"release": evidence.measured, **same}
    found: dict[str, dict[str, float | None]] = {}
    for side, measured in sides.items():
        for name, value in (measured.record.get("metrics") or {}).items():
            if name not in derived and (figure := finite(value)) is not None and (side == "release" or name in found):
                found.setdefault(name, {})[side] = figure
    return found
