"""The gate: rules and evidence in, a verdict out. `decide` is pure; `judge` has the evidence gathered and the reports written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from configs.deploy import DeployConfig
from configs.gates import GateConfig, LoadRule, NonInferiorRule, ParityRule, ThresholdRule
from configs.loader import load
from configs.paths import RunPaths
from configs.schema import RunConfig
from configs.verdict import Outcome, RuleResult, Verdict, conjunction
from eval.evidence import PER_EXAMPLE, Evidence, Measured, gather
from eval.report import write_reports
from eval.statistics import compare

# What has to be done for these references to be measured.
MEASURED_BY = {
    "base": "set evaluate.baseline: true and run tunegate evaluate CONFIG",
    "parent": "set quantize.compare_parent: true and run tunegate run CONFIG",
}


def decide(rules: GateConfig, evidence: Evidence) -> Verdict:
    """Pure. Missing, NaN or mismatched evidence never passes."""
    results = [decide_rule(rule, evidence) for rule in rules.rules]
    dataset = evidence.measured.record.get("dataset") if evidence.measured else None
    return Verdict(release=evidence.release, champion=evidence.champion, outcome=conjunction(results), results=results, dataset=dataset)


def decide_load(rules: GateConfig, reference: str, load: dict[str, float]) -> Verdict:
    """The load rules of a deployment; a file of none is inconclusive."""
    evidence = Evidence(release=reference, measured=None, load=load)
    results = [decide_rule(rule, evidence) for rule in rules.rules if isinstance(rule, LoadRule)]
    return Verdict(release=reference, outcome=conjunction(results), results=results)


def decide_rule(rule: ThresholdRule | NonInferiorRule | ParityRule | LoadRule, evidence: Evidence) -> RuleResult:
    if isinstance(rule, LoadRule):
        return bounded(rule, evidence.load or {}, "tunegate loadtest ENV")
    measured = evidence.measured
    if measured is None:
        return result(rule.name, "inconclusive", "The release has not been evaluated: tunegate evaluate CONFIG.")
    if measured.record.get("release") != evidence.release:
        return result(rule.name, "fail", f"The evaluation is of {measured.record.get('release')}, not of this release: tunegate evaluate CONFIG.")
    if isinstance(rule, ThresholdRule):
        return bounded(rule, measured.record.get("metrics", {}), "tunegate evaluate CONFIG")
    if isinstance(rule, ParityRule):
        return decide_parity(rule, measured)
    return decide_non_inferior(rule, measured, evidence)


def result(name: str, outcome: Outcome, sentence: str, **evidence: Any) -> RuleResult:
    return RuleResult(rule=name, outcome=outcome, sentence=sentence, evidence=evidence)


def number(value: Any) -> float | None:
    """None for anything that is not a finite number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def bounded(rule: ThresholdRule | LoadRule, metrics: dict[str, Any], command: str) -> RuleResult:
    value = number(metrics.get(rule.metric))
    if value is None:
        return result(rule.name, "inconclusive", f"{rule.metric} is missing or not a finite number: {command}.", value=None)
    inside = (rule.minimum is None or value >= rule.minimum) and (rule.maximum is None or value <= rule.maximum)
    return result(rule.name, "pass" if inside else "fail", f"{rule.metric} is {value:.4g}.", value=value, minimum=rule.minimum, maximum=rule.maximum)


def decide_parity(rule: ParityRule, measured: Measured) -> RuleResult:
    parity = measured.record.get("parity") or {}
    agreement, difference = number(parity.get("agreement")), number(parity.get("difference"))
    if agreement is None or difference is None or not parity.get("prompts") or not isinstance(parity.get("passed"), bool):
        return result(rule.name, "inconclusive", "Parity was not measured: tunegate evaluate CONFIG.")
    sentence = f"{parity['prompts']} golden prompts answered {agreement:.0%} alike, mean difference {difference:.3g}."
    return result(rule.name, "pass" if parity["passed"] else "fail", sentence, **parity)


def decide_non_inferior(rule: NonInferiorRule, measured: Measured, evidence: Evidence) -> RuleResult:
    if rule.reference == "champion" and evidence.champion is None:
        return result(rule.name, "pass", "Nothing is pinned in production: a first release has no champion to be worse than.", champion=None)
    other = evidence.references.get(rule.reference)
    if other is None:
        command = {"champion": f"tunegate releases fetch {evidence.champion}", **MEASURED_BY}[rule.reference]
        return result(rule.name, "inconclusive", f"No evaluation of the {rule.reference} was found: {command}.", champion=evidence.champion)
    if rule.reference == "champion" and other.record.get("release") != evidence.champion:
        return result(rule.name, "fail", f"The champion's evaluation is of {other.record.get('release')}, not of {evidence.champion}.")
    if rule.reference == "base" and evidence.base is not None and not str(other.record.get("release")).endswith(evidence.base):
        measured_base = other.record.get("release")
        return result(rule.name, "fail", f"The base's evaluation is of {measured_base}, not of {evidence.base}: tunegate evaluate CONFIG.")
    if not measured.record.get("dataset") or measured.record["dataset"] != other.record.get("dataset"):
        return result(rule.name, "inconclusive", f"The {rule.reference} was measured on other test rows: evaluate both on the same data.")
    column = PER_EXAMPLE.get(rule.metric, "")
    mine, theirs = measured.columns.get(column), other.columns.get(column)
    if not mine or not theirs:
        return result(rule.name, "inconclusive", f"{rule.metric} has no per-example outcomes on both sides: tunegate evaluate CONFIG.")
    return compare_to_margin(rule, mine, theirs)


def compare_to_margin(rule: NonInferiorRule, mine: dict[str, float], theirs: dict[str, float]) -> RuleResult:
    try:
        paired = compare(mine, theirs, rule.confidence)
    except ValueError as error:
        return result(rule.name, "inconclusive", f"The examples cannot be paired ({error}): tunegate evaluate CONFIG.")
    outcome: Outcome = "pass" if paired.low > -rule.margin else "fail" if paired.high < -rule.margin else "inconclusive"
    words = {"pass": "lies above", "fail": "lies below", "inconclusive": "spans"}[outcome]
    interval = f"{rule.confidence:.0%} interval [{paired.low:+.3f}, {paired.high:+.3f}] {words} {0.0 - rule.margin:+.3f}"
    sentence = f"{rule.metric} differs by {paired.difference:+.3f} on {paired.n} examples; its {interval}."
    return result(rule.name, outcome, sentence, reference=rule.reference, **paired.__dict__)


def judge(config: RunConfig, paths: RunPaths, production: DeployConfig | None) -> Verdict:
    """Judges by files and writes the verdict in its five forms. Raises InputError if there is no release or no readable gate file."""
    rules, evidence = read_rules(Path(config.gate)), gather(paths, production)
    verdict = decide(rules, evidence)
    write_reports(verdict, paths.gate, evidence, paths)
    return verdict


def read_rules(path: Path) -> GateConfig:
    """Raises ConfigError naming every problem of the gate file."""
    return load(path, GateConfig)
