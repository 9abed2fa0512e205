"""`tunegate init`: a commented YAML for a file of rows and a base. It asks nothing, looks at both, and says why for
each value; `tunegate check` of what it wrote passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypedDict

from configs.check import check_files
from configs.errors import ConfigError, InputError, TunegateError
from configs.read import read_run
from configs.rules.gate import GateConfig
from configs.task import Task
from infra.files.atomic import write_text
from train.propose.base import Base, describe_base, longest_in_tokens
from train.propose.page import (
    Line,
    gate_rule,
    held_out,
    max_tokens_of,
    shares,
    training,
    write_gate,
    write_line,
    write_section,
)
from train.propose.rows import Rows, look

GATES = Path("configs/gates")
# What may be left out and counted; other kinds of fault are for the person to decide.
DROPPED = (
    *("unreadable", "missing_field", "empty_field", "mojibake", "repeated_id", "duplicate", "conflicting_answer"),
    *("too_long", "no_target_tokens", "identical_pair", "leakage", "invalid_tag", "unknown_label"),
)


class Proposal(TypedDict):
    """What was written, and what for."""

    config: str
    gate: str
    task: str
    why: str
    rows: int
    base: str
    left_out: dict[str, int]


def init(
    files: list[Path], base: str, name: str | None, output: Path | None, task: Task | None, force: bool
) -> Proposal:
    """Writes the run's YAML, and a gate's where none fits. Raises InputError where a file would be overwritten, or
    nothing can be made of the rows with this base."""
    places = [inside(file) for file in files]
    name = name or re.sub(r"[^a-z0-9._-]+", "-", files[0].name.split(".")[0].lower()).strip("-._") or "run"
    path = output or Path("configs/finetune") / f"{name}.yaml"
    refuse_overwriting(path, force)
    found = describe_base(base)
    rows = look(places, task, found.writes, found.has_template)
    gate = fitting_gate(rows) or GATES / f"{name}.yaml"
    is_new = not gate.exists() or gate == GATES / f"{name}.yaml"
    if is_new:
        refuse_overwriting(gate, force)
    before = {one: one.read_text(encoding="utf8") if one.exists() else None for one in (path, gate)}
    try:
        if is_new:
            write_whole(gate, write_gate(rows, str(path)))
        write_whole(path, write_page(name, places, found, rows, gate, path, {}))
        refuse_problems(path)
        faults = faults_of(path) if rows.whole else {}
        if faults:
            write_whole(path, write_page(name, places, found, rows, gate, path, faults))
            refuse_problems(path)
    except TunegateError:
        for one, text in before.items():
            one.unlink(missing_ok=True) if text is None else write_text(one, text)
        raise
    return {
        "config": str(path),
        "gate": str(gate),
        "task": rows.task,
        "why": rows.why,
        "rows": len(rows.texts),
        "base": found.kind,
        "left_out": faults,
    }


def inside(file: Path) -> str:
    """As data.files has it. Raises InputError where the file is not there, or outside the checkout."""
    root = Path.cwd().resolve()
    if not file.is_file():
        raise InputError(f"{file}: found no such file of rows", hint="tunegate init ROWS.jsonl --base DIR")
    if not file.absolute().is_relative_to(root):
        found = (
            f"{file}: found rows outside the checkout, expected them inside: a run names only what it can take along"
        )
        raise InputError(found, hint=f"cp {file} .   (or a hard link: ln {file} .)")
    return file.absolute().relative_to(root).as_posix()


def refuse_overwriting(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise InputError(
            f"{path}: found a file there already", hint="--force writes over it; --name NAME writes another"
        )


def write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def refuse_problems(path: Path) -> None:
    if problems := check_files([path], []):
        raise ConfigError(problems, hint="write the YAML by hand: docs/ml-engineer.md")


def faults_of(path: Path) -> dict[str, int]:
    """What `prepare` would refuse of these rows, by kind."""
    from train.check_data import check_rows

    report, _ = check_rows(read_run(path, None))
    return {kind: count for kind, count in report["refused"].items() if kind in DROPPED}


def fitting_gate(rows: Rows) -> Path | None:
    """A gate that is there, asks for this metric and parity alone, and is not easier than what would be written."""
    from configs.loader import load

    wanted, _ = gate_rule(rows)
    for path in sorted(GATES.glob("*.yaml")):
        try:
            rules = load(path, GateConfig).rules
        except TunegateError:
            continue
        thresholds = [rule for rule in rules if rule.rule == "threshold"]
        if len(thresholds) == 1 and {rule.rule for rule in rules} == {"threshold", "parity"}:
            rule = thresholds[0]
            if rule.metric == wanted["metric"] and rule.maximum is None and (rule.minimum or 0) >= wanted["minimum"]:
                return path
    return None


def write_page(
    name: str, files: list[str], base: Base, rows: Rows, gate: Path, path: Path, faults: dict[str, int]
) -> str:
    """The run's YAML."""
    longest, counted = longest_in_tokens(base, rows.texts)
    tokens = max_tokens_of(base, rows, longest, counted)
    validation, test = held_out(rows)
    whole = "" if rows.whole else ", and more"
    data = [Line("source", "files", ""), Line("files", files, f"{len(rows.texts):,} rows{whole}: {rows.why}")]
    if rows.preset:
        data.append(Line("format", rows.preset, "the shape of these rows, by name"))
    if rows.columns:
        data.append(Line("columns", rows.columns, "our field: your column"))
    if rows.template:
        data.append(Line("template", rows.template, "Jinja over your columns"))
    drops = dict.fromkeys(faults, "drop")
    if not rows.whole or not counted or longest >= tokens.value:
        drops["too_long"] = "drop"
    data += [tokens, validation, test, *shares(rows)]
    if drops:
        said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in faults.items())
        data.append(Line("lint", drops, f"left out and counted{': ' + said if said else ''}"))
    problem = [Line("problem", rows.problem, "")] if rows.problem != "single_label" else []
    lines = [
        f"# tunegate run {path}",
        "# yaml-language-server: $schema=../schema/run.json",
        f"# Proposed by tunegate init. Look at it: tunegate check {path} --data --plan",
        "",
    ]
    text = "\n".join(lines)
    text += write_line(Line("name", name, "names build/NAME and the release"))
    text += write_line(Line("task", rows.task, f"the base is a {base.kind}; the rows are {rows.why}"))
    text += "".join(map(write_line, problem))
    text += write_line(Line("base", base.keys, ""))
    text += write_section("data", data)
    text += write_section("train", training(base, rows, tokens.value, validation.value + test.value))
    text += write_section("serving", [serving(base, tokens.value)])
    if rows.task == "causal-lm" and rows.answers:
        text += write_section("evaluate", [answers(base, rows, tokens.value)])
    return text + write_line(Line("gate", str(gate), "the rules that a release must pass"))


def serving(base: Base, max_tokens: int) -> Line:
    room = max(max_tokens, min(512, base.positions or 512))
    return Line(
        "max_model_len", room, "the longest request, question and answer" if room > max_tokens else "as the rows"
    )


def answers(base: Base, rows: Rows, max_tokens: int) -> Line:
    longest, _ = longest_in_tokens(base, rows.answers)
    return Line("max_new_tokens", max(4, min(max_tokens, longest + 8)), f"the longest answer seen has about {longest}")
