"""The gate: rules and evidence in, a verdict out. `decide` is pure; `run_gate` gathers the evidence and writes the
reports."""

from __future__ import annotations

import re
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.loader import load
from configs.paths import RunPaths
from configs.release import REFERENCE_PATTERN
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from configs.verdict import Verdict
from eval.report.write import write_reports
from eval.rules.decide import decide
from eval.rules.evidence import gather
from eval.rules.holdout import record_use
from infra.terminal import waiting


def run_gate(config: RunConfig, paths: RunPaths, production: DeployConfig | None) -> Verdict:
    """Judges by files and writes the reports. Raises InputError if there is no release or no readable gate file."""
    rules = read_rules(Path(config.gate))
    with waiting("the rules are decided"):
        evidence = gather(paths, production, named_in(rules))
        verdict = decide(rules, evidence)
    if verdict.dataset and evidence.measured and evidence.measured.record.get("release") == evidence.release:
        verdict = verdict.model_copy(update={"holdout_uses": record_use(verdict.dataset, verdict.release)})
    write_reports(verdict, paths.gate, evidence, paths)
    return verdict


def named_in(rules: GateConfig) -> list[str]:
    found = {str(getattr(rule, "reference", None)) for rule in rules.rules}
    return sorted(name for name in found if re.fullmatch(REFERENCE_PATTERN, name))


def read_rules(path: Path) -> GateConfig:
    """Raises ConfigError naming every problem of the gate file."""
    return load(path, GateConfig)
