"""The gate: rules and evidence in, a verdict out. `decide` is pure; `judge` has the evidence gathered and the reports written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.loader import load
from configs.paths import RunPaths
from configs.release import REFERENCE_PATTERN
from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.rules.cost import GoodputRule, LatencyRule, SizeRule
from configs.rules.gate import GateConfig
from configs.rules.paired import NonInferiorRule, SliceMinimumRule, SuperiorRule
from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.run.config import RunConfig
from configs.verdict import RuleResult, Verdict, conjunction
from eval.report.write import write_reports
from eval.rules.cost import decide_behaviour, decide_goodput, decide_latency
from eval.rules.evidence import Evidence, gather
from eval.rules.holdout import look
from eval.rules.paired import decide_comparing, decide_slices
from eval.rules.quality import EVALUATE, decide_parity, decide_quantization, decide_size, decide_threshold, number, result


def decide(rules: GateConfig, evidence: Evidence) -> Verdict:
    """Pure. Missing, NaN or mismatched evidence never passes."""
    results = [decide_rule(rule, evidence) for rule in rules.rules]
    dataset = evidence.measured.record.get("dataset") if evidence.measured else None
    outcome = conjunction(results)
    return Verdict(release=evidence.release, champion=evidence.champion, outcome=outcome, results=results, dataset=dataset, changes=changes(evidence))


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
        return result(rule, "fail", f"The evaluation is of {measured.record.get('release')}, not of this release: {EVALUATE}.")
    match rule:
        case ThresholdRule() | CalibrationRule():
            return decide_threshold(rule, measured)
        case NonInferiorRule() | SuperiorRule():
            return decide_comparing(rule, measured, evidence)
        case SliceMinimumRule():
            return decide_slices(rule, measured, evidence)
        case RobustnessRule() | FairnessRule():
            return decide_behaviour(rule, measured)
        case QuantizationRule():
            return decide_quantization(rule, measured)
        case SizeRule():
            return decide_size(rule, measured, evidence)
        case ParityRule():
            return decide_parity(rule, measured)
    raise TypeError(f"{rule!r}: a rule that nobody decides")


def changes(evidence: Evidence) -> dict[str, dict[str, float | None]]:
    """Every metric of the release beside the same of its references; what only tells of the parent is no metric of its own."""
    if evidence.measured is None or evidence.measured.record.get("release") != evidence.release:
        return {}
    dataset, derived = evidence.measured.record.get("dataset"), evidence.measured.record.get("compared") or []
    same = {name: one for name, one in evidence.references.items() if "@" not in name and dataset and one.record.get("dataset") == dataset}
    sides = {"release": evidence.measured, **same}
    found: dict[str, dict[str, float | None]] = {}
    for side, measured in sides.items():
        for name, value in (measured.record.get("metrics") or {}).items():
            if name not in derived and (figure := number(value)) is not None and (side == "release" or name in found):
                found.setdefault(name, {})[side] = figure
    return found


def judge(config: RunConfig, paths: RunPaths, production: DeployConfig | None) -> Verdict:
    """Judges by files and writes the reports. Raises InputError if there is no release or no readable gate file."""
    rules = read_rules(Path(config.gate))
    evidence = gather(paths, production, named_in(rules))
    verdict = decide(rules, evidence)
    if verdict.dataset and evidence.measured and evidence.measured.record.get("release") == evidence.release:
        verdict = verdict.model_copy(update={"looks": look(verdict.dataset, verdict.release)})
    write_reports(verdict, paths.gate, evidence, paths)
    return verdict


def named_in(rules: GateConfig) -> list[str]:
    found = {str(getattr(rule, "reference", None)) for rule in rules.rules}
    return sorted(name for name in found if re.fullmatch(REFERENCE_PATTERN, name))


def read_rules(path: Path) -> GateConfig:
    """Raises ConfigError naming every problem of the gate file."""
    return load(path, GateConfig)
