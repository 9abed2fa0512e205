"""The gate: rules and evidence in, a verdict out. `decide` is pure; `run_gate` gathers the evidence and writes the
reports."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from configs.digest import key_of
from configs.environment.config import DeployConfig
from configs.loader import load
from configs.metrics import Metrics
from configs.paths import RunPaths
from configs.release import REFERENCE_PATTERN
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from configs.verdict import NO_CHAMPION, Binding, Verdict
from eval.report.write import write_reports
from eval.rules.decide import decide
from eval.rules.evidence import Evidence, gather
from eval.rules.holdout import read_sketch, record_look
from eval.statistics.looks import confidence_at
from infra.terminal import waiting


def run_gate(config: RunConfig, paths: RunPaths, production: DeployConfig | None) -> Verdict:
    """Judges by files and writes the reports. `production`: the environment that it is judged for, its `release` what
    serves there; None where none is named. Raises InputError if there is no release or no readable gate file."""
    path = gate_of(config, production)
    rules = read_rules(path)
    evidence = gather(paths, production, named_in(rules))
    look, counted = look_at(paths, evidence, rules.digest)
    with waiting("the rules are decided"):
        verdict = decide(at_look(rules, look), evidence)
    binding = bind(verdict, evidence, path, rules.digest, look if counted else None)
    verdict = verdict.model_copy(update={"holdout_uses": look, "binding": binding})
    write_reports(verdict, paths.gate, evidence, paths)
    return verdict


def gate_of(config: RunConfig, production: DeployConfig | None) -> Path:
    """The environment's own where it states one: a run chooses no softer gate than what it wants to replace passed."""
    own = production.release_gate if production else None
    if production and own and own != config.gate:
        sys.stderr.write(f"judged by {own}, the release_gate of {production.name}, not by the run's {config.gate}\n")
    return Path(own or config.gate)


def look_at(paths: RunPaths, evidence: Evidence, gate: str) -> tuple[int | None, bool]:
    """Which look at the test rows this is, and whether the store counted it. None without an evaluation of this
    release: nothing is looked at."""
    measured = evidence.measured
    rows = measured.record.get("dataset") if measured else None
    if measured is None or not rows or measured.record.get("release") != evidence.release:
        return None, False
    return record_look(rows, read_sketch(paths.evaluation), evidence.release, gate)


def at_look(rules: GateConfig, look: int | None) -> GateConfig:
    """Every rule at the confidence that this look must have, so that all looks together keep what the first
    promises."""
    if not look:
        return rules
    spent = [
        rule.model_copy(update={"confidence": confidence_at(rule.confidence, look)})
        if hasattr(rule, "confidence")
        else rule
        for rule in rules.rules
    ]
    return rules.model_copy(update={"rules": spent})


def bind(verdict: Verdict, evidence: Evidence, gate: Path, gate_digest: str, look: int | None) -> Binding:
    """What the verdict was reached about, sealed by its digest."""
    measured = evidence.measured.record if evidence.measured else Metrics()
    conditions = measured.get("conditions")
    champion = evidence.champion or (NO_CHAMPION if evidence.environment else None)
    return Binding(
        release=verdict.release,
        outcome=verdict.outcome,
        environment=evidence.environment,
        champion=champion,
        gate=gate.as_posix(),
        gate_digest=gate_digest,
        rows=measured.get("dataset"),
        conditions=f"sha256:{key_of(conditions)}" if conditions else None,
        versions=conditions["versions"] if conditions else {},
        n=measured.get("n"),
        look=look,
    ).sealed()


def named_in(rules: GateConfig) -> list[str]:
    found = {str(getattr(rule, "reference", None)) for rule in rules.rules}
    return sorted(name for name in found if re.fullmatch(REFERENCE_PATTERN, name))


def read_rules(path: Path) -> GateConfig:
    """Raises ConfigError naming every problem of the gate file."""
    return load(path, GateConfig)
