"""`tunegate check`: which kind a YAML is, all problems of many files, and the JSON Schemas for editors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from configs.document import read_document, read_yaml
from configs.environment.clashes import clashes, dotted
from configs.environment.config import DeployConfig
from configs.environment.smoke import SmokeConfig
from configs.errors import ConfigError, Problem
from configs.loader import load
from configs.read import environments_here, read_environment, release_gate_of
from configs.rules.fit import misfits
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from configs.section import Section
from configs.verdict import Verdict

KINDS: dict[str, type[Section]] = {"run": RunConfig, "gate": GateConfig, "deploy": DeployConfig, "smoke": SmokeConfig}


def kind_of(path: Path) -> type[Section]:
    """By folder, else by the keys that only one kind has."""
    folders: dict[str, type[Section]] = {
        "finetune": RunConfig,
        "gates": GateConfig,
        "deploy": DeployConfig,
        "smoke": SmokeConfig,
    }
    if path.parent.name in folders:
        return folders[path.parent.name]
    keys = read_yaml(path)[0].keys()
    if "rules" in keys:
        return GateConfig
    if "requests" in keys:
        return SmokeConfig
    if {"router", "slot_ports", "model"} & keys:
        return DeployConfig
    return RunConfig


def check_files(paths: list[Path], overrides: list[str]) -> list[Problem]:
    """Every problem of every file, a run's gate file included."""
    problems: list[Problem] = []
    for path in paths:
        try:
            config = load(path, kind_of(path), overrides)
            if isinstance(config, RunConfig):
                problems += check_gate(config)
            if isinstance(config, DeployConfig):
                problems += check_clashes(path, read_environment(str(path)) if config.router_of else config)
                if config.smoke:
                    load(Path(config.smoke), SmokeConfig)
        except ConfigError as error:
            problems += error.problems
    return problems


def are_of_gates(problems: list[Problem], paths: list[Path], overrides: list[str]) -> bool:
    """Whether all that `check_files` found is of the runs' gates: rows and bases can be looked at all the same."""
    found: list[Problem] = []
    for path in paths if problems else []:
        try:
            config = load(path, kind_of(path), overrides)
            found += check_gate(config) if isinstance(config, RunConfig) else []
        except ConfigError:
            return False
    return problems == found


def check_clashes(path: Path, config: DeployConfig) -> list[Problem]:
    """Whatever the environment would take from another one of this checkout."""
    document = read_document(path, [])
    problems = []
    for claim, other, theirs in clashes(config, environments_here(path)):
        file, line = document.file_and_line(claim.key)
        whose = f"it is {theirs} of {other}" if other != config.name or theirs == "name" else f"it is {theirs} as well"
        expected = f"a {claim.what} of its own: {whose}"
        problems.append(Problem(file, line, dotted(claim.key), claim.value, expected))
    return problems


def check_gate(run: RunConfig, production: str | None = None) -> list[Problem]:
    """Every rule of a run's gate, and of its environment's, that could not be decided of what the run measures.
    `production`: another environment than the run's own.

    Raises InputError where that one is not here, ConfigError for a gate file that cannot be read.
    """
    if production:
        read_environment(production)
    gates = {run.gate, release_gate_of(production or run.production) or run.gate}
    return [problem for gate in sorted(gates) for problem in check_rules(run, Path(gate))]


def check_rules(run: RunConfig, path: Path) -> list[Problem]:
    rules, document = load(path, GateConfig), read_document(path, [])
    problems = []
    for one in misfits(rules, run):
        location = ("rules", one.rule, one.key)
        file, line = document.file_and_line(location)
        name = f"rules.{one.rule}.{one.key} ({rules.rules[one.rule].name})"
        problems.append(Problem(file, line, name, one.found, f"{one.expected} (run {run.name})"))
    return problems


def refuse_gate(run: RunConfig, path: Path, production: str | None = None) -> None:
    """Raises ConfigError as `check` would tell it, before anything is trained or measured."""
    if problems := check_gate(run, production):
        named = f" --set production={production}" if production else ""
        raise ConfigError(problems, hint=f"tunegate check {path}{named}")


def schemas() -> dict[str, str]:
    """File name to JSON Schema text."""
    published: dict[str, type[Section]] = {**KINDS, "verdict": Verdict}
    return {
        f"{name}.json": json.dumps(unwrapped(kind.model_json_schema()), indent=2) + "\n"
        for name, kind in published.items()
    }


def unwrapped(schema: Any) -> Any:
    """Descriptions that come from docstrings, each paragraph in one line: how code is wrapped is no business of an
    editor's."""
    if isinstance(schema, list):
        return [unwrapped(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: re.sub(r"(?<!\n)\n(?!\n)", " ", part)
        if key == "description" and isinstance(part, str)
        else unwrapped(part)
        for key, part in schema.items()
    }


def export(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf8")
