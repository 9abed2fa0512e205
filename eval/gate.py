"""The gate: rules and evidence in, a verdict out. `decide` is pure; `judge` gathers what it needs from files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.deploy import DeployConfig
from configs.errors import InputError
from configs.gates import GateConfig, LoadRule, NonInferiorRule, ParityRule, ThresholdRule
from configs.paths import RunPaths
from configs.release import read_manifest
from configs.schema import RunConfig
from configs.verdict import Outcome, RuleResult, Verdict, conjunction
from eval.statistics import compare

PER_EXAMPLE = {"exact_match": "correct", "accuracy": "correct", "valid_json": "valid_json", "name_match": "name_match"}


@dataclass(frozen=True)
class Measured:
    """One release's metrics.json and its per-example columns, each by id."""

    record: dict[str, Any]
    columns: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that a gate may look at. `champion` is None when nothing is pinned; `references` holds what was measured."""

    release: str
    measured: Measured | None
    champion: str | None = None
    references: dict[str, Measured] = field(default_factory=dict)
    load: dict[str, float] | None = None


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
    sentence = f"{agreement:.0%} of {parity['prompts']} golden prompts answered alike, mean difference {difference:.3g}."
    return result(rule.name, "pass" if parity["passed"] else "fail", sentence, **parity)


def decide_non_inferior(rule: NonInferiorRule, measured: Measured, evidence: Evidence) -> RuleResult:
    if rule.reference == "champion" and evidence.champion is None:
        return result(rule.name, "pass", "Nothing is pinned in production: a first release has no champion to be worse than.", champion=None)
    other = evidence.references.get(rule.reference)
    if other is None:
        fetch, baseline = f"tunegate releases fetch {evidence.champion}", "set evaluate.baseline: true and run tunegate evaluate CONFIG"
        command = fetch if rule.reference == "champion" else baseline
        return result(rule.name, "inconclusive", f"No evaluation of the {rule.reference} was found: {command}.", champion=evidence.champion)
    if rule.reference == "champion" and other.record.get("release") != evidence.champion:
        return result(rule.name, "fail", f"The champion's evaluation is of {other.record.get('release')}, not of {evidence.champion}.")
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
    interval = f"{rule.confidence:.0%} interval [{paired.low:+.3f}, {paired.high:+.3f}] {words} {-rule.margin:+.3f}"
    sentence = f"{rule.metric} differs by {paired.difference:+.3f} on {paired.n} examples; its {interval}."
    return result(rule.name, outcome, sentence, reference=rule.reference, **paired.__dict__)


def judge(config: RunConfig, paths: RunPaths, production: DeployConfig | None) -> Verdict:
    """Gathers evidence from files. Raises InputError if there is no release or no readable gate file."""
    release = read_manifest(paths.release).reference
    measured = read_measured(paths.evaluation)
    pinned = production.release if production else None
    champion = None if pinned is None else find_measured(pinned, measured.record.get("dataset") if measured else None)
    found = {"champion": champion, "base": read_measured(paths.evaluation / "base")}
    references = {name: value for name, value in found.items() if value is not None}
    return decide(read_rules(Path(config.gate)), Evidence(release, measured, pinned, references))


def read_rules(path: Path) -> GateConfig:
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return GateConfig.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf8")))
    except (OSError, YAMLError, ValidationError) as error:
        raise InputError(f"{path}: not a gate file: {error}", hint="tunegate check CONFIG") from error


def read_measured(folder: Path) -> Measured | None:
    """None if there is no complete evaluation in `folder`."""
    if not (folder / "metrics.json").exists() or not (folder / "predictions.parquet").exists():
        return None
    import pandas

    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
        frame = pandas.read_parquet(folder / "predictions.parquet").set_index("id")
    except (ValueError, KeyError, OSError):
        return None
    if not isinstance(record, dict) or not frame.index.is_unique:
        return None
    return Measured(record, {name: {str(key): float(one) for key, one in frame[name].items()} for name in PER_EXAMPLE.values() if name in frame})


def find_measured(reference: str, dataset: str | None) -> Measured | None:
    """The evaluation of exactly this release: the one on `dataset` if there is one, else any (the gate says so)."""
    folders = [*Path("releases").glob("*/eval"), *Path("build").glob("*/eval")]
    found = [measured for folder in folders if (measured := read_measured(folder)) and measured.record.get("release") == reference]
    return next((measured for measured in found if measured.record.get("dataset") == dataset), found[0] if found else None)
