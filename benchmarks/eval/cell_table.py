"""The cells of benchmarks/eval/cells.py: simulated one after the other, each kept as soon as it is known so that a kill
costs one cell, and their table in docs/benchmarks.md once all are there."""

from __future__ import annotations

import ast
import json
import time
from functools import cache
from pathlib import Path

from benchmarks.eval import cells, whole_sets
from benchmarks.eval.cells import DISCORDANCE, DRAWS, MAKERS, Cell, cell, places
from benchmarks.prove import DOCUMENT, FOLDER, console, write_section
from configs.digest import key_of
from eval.statistics import calibration, figures, means, ranks, sums, tango, values, weighted
from infra.files.atomic import write_text

CODE = (cells, whole_sets, calibration, figures, means, ranks, sums, tango, weighted)
CONSTANTS = (values.LEAST_UNBOUNDED, values.TANGO_FROM)


def show(kind: str, draws: int) -> None:
    """Simulates a kind, or `all`; those are not simulated again that this code gave of as many draws."""
    for name in MAKERS if kind == "all" else (kind,):
        found = {(one.layout, one.discordance): one for one in kept(name) if one.draws >= draws}
        for place in places():
            key, started = (place[0].name, place[1]), time.monotonic()
            known = key in found
            found[key] = found[key] if known else cell(name, *place, draws)
            spent = "kept" if known else f"{time.monotonic() - started:.0f} s"
            said = f"{'holds ' if found[key].holds else 'MISSED'} {found[key]} {spent}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
            if not known:
                keep(name, [*found.values()])
    every = {name: kept(name) for name in MAKERS}
    if missing := [name for name, some in every.items() if not whole(some)]:
        console.print(f"{DOCUMENT} is as it was: {', '.join(missing)} lack cells of {DRAWS} draws", soft_wrap=True)
        return
    write_section(DOCUMENT, "eval-statistics", table(every))


def whole(some: list[Cell]) -> bool:
    return {(one.layout, one.discordance) for one in some if one.draws >= DRAWS} == {
        (layout.name, discordance) for layout, discordance in places()
    }


def path_of(name: str) -> Path:
    return FOLDER / "statistics" / f"{name.replace(':', '-')}.json"


def keep(name: str, found: list[Cell]) -> None:
    path_of(name).parent.mkdir(parents=True, exist_ok=True)
    write_text(path_of(name), json.dumps({"code": code(), "cells": [one._asdict() for one in found]}))


def kept(name: str) -> list[Cell]:
    """What this very code has found; nothing of an earlier edition of it."""
    path = path_of(name)
    found = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    same = isinstance(found, dict) and found.get("code") == code()
    return [Cell(**one) for one in found["cells"]] if same else []


@cache
def code() -> str:
    """A digest of what simulates and what is simulated, comments and docstrings left out."""
    trees = []
    for module in CODE:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False):
                node.body = node.body[1:]
        trees.append(ast.dump(tree))
    return key_of(*trees, *CONSTANTS)


def table(found: dict[str, list[Cell]]) -> list[str]:
    every = [one for some in found.values() for one in some]
    missed = [one for one in every if not one.holds]
    lines = [
        "A release truly loses exactly the margin. Each cell, in percent of the draws: falsely passed (2.5 is what a "
        "95% interval spends) / intervals that hold the true difference. `too small`: no interval. Bold: "
        "beyond 2.5 and what the simulation itself may err, or below 94. Columns: the share of rows that differ. Rows: "
        "examples, or clusters x the rows of each. By `python -m benchmarks.eval.statistics KIND DRAWS`.",
        "",
        f"{len(every) - len(missed)} of {len(every)} cells hold.",
        "",
        "| kind | draws | examples | " + " | ".join(f"{one:.1%}" for one in DISCORDANCE) + " |",
        "|---|---|---|" + "---|" * len(DISCORDANCE),
    ]
    for name, some in found.items():
        for layout in dict.fromkeys(one.layout for one in some):
            shown = " | ".join(words(one) for one in some if one.layout == layout)
            lines.append(f"| {name} | {some[0].draws:,} | {layout} | {shown} |")
    return lines


def words(one: Cell) -> str:
    if one.too_small == 1:
        return "too small"
    said = f"{100 * one.false_passes:.1f} / {100 * one.coverage:.1f}"
    said = said if one.holds else f"**{said}**"
    return f"{said}, too small {100 * one.too_small:.1f}" if one.too_small else said
