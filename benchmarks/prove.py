"""`make prove-train` and its like: every promise of a room measured in one run, as a table, as JSON, and in
docs/benchmarks.md.

.venv/bin/python -m benchmarks.prove train            # all
.venv/bin/python -m benchmarks.prove train speed ner  # only these; writes no file
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from infra.files.atomic import write_text
from infra.git.command import head_revision

FOLDER = Path("build/prove")
DOCUMENT = Path("docs/benchmarks.md")
console = Console(stderr=True)


class Row(NamedTuple):
    """One promise: what was measured in this run, what was aimed at, and whether it holds."""

    name: str
    value: str | float | int
    goal: str
    holds: bool


Check = Callable[[], list[Row]]


class Ended(NamedTuple):
    """One check that has ended: its rows, its seconds."""

    rows: list[Row]
    seconds: float


def run_checks(
    checks: dict[str, Check], before: dict[str, Ended], keep: Callable[[dict[str, Ended]], None]
) -> dict[str, Ended]:
    """A check that breaks is a goal that is missed; those after it run all the same. Those that ended `before` a kill
    are not run again, well or badly."""
    ended = dict(before)
    for name, check in checks.items():
        console.rule(name)
        if name not in ended:
            started = time.monotonic()
            rows = rows_of(name, check)
            ended[name] = Ended(rows, time.monotonic() - started)
            keep(ended)
        for row in ended[name].rows:
            console.print(
                f"{'holds ' if row.holds else 'MISSED'}  {row.name}: {row.value}   (goal: {row.goal})", markup=False
            )
        console.print(
            f"{name} took {ended[name].seconds:.0f} s{', before this run was stopped' if name in before else ''}"
        )
    return ended


def rows_of(name: str, check: Check) -> list[Row]:
    try:
        return check()
    except (Exception, SystemExit) as error:
        console.print(traceback.format_exc(), markup=False)
        return [Row(name, f"{type(error).__name__}: {str(error)[:200]}", "no error", False)]


def ended_before(path: Path, here: str) -> dict[str, Ended]:
    """What a killed run of this very commit on this machine had seen; nothing of another."""
    found = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    same = found.get("here") == here and not here.startswith("unknown") and "-dirty" not in here
    return (
        {name: Ended([Row(*row) for row in rows], seconds) for name, (rows, seconds) in found["ended"].items()}
        if same
        else {}
    )


def run(
    *command: str, expected: tuple[int, ...] = (0,), environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command with its own progress on the terminal; stdout comes back. Raises RuntimeError on another exit code."""
    console.print(f"[bold]$ {' '.join(command)[:200]}", soft_wrap=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {}))
    if done.returncode not in expected:
        raise RuntimeError(
            f"{' '.join(command)[:200]} ended with {done.returncode}, expected {expected}: {done.stdout[-300:]}"
        )
    return done


def tunegate(*arguments: str, expected: tuple[int, ...] = (0,)) -> str:
    return run(str(Path(sys.executable).with_name("tunegate")), *arguments, expected=expected).stdout


def tested(name: str, *arguments: str) -> list[Row]:
    """A promise that is a test: it passed in this run, and nothing in it was skipped."""
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, expected=(0, 1, 2, 3, 4, 5))
    last = done.stdout.strip().splitlines()[-1]
    return [Row(name, last.strip("= "), "passed", done.returncode == 0 and "skipped" not in last)]


def machine() -> str:
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf8"))
    gpu = "a GPU" if Path("/dev/nvidiactl").exists() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{len(os.sched_getaffinity(0))} cores ({cpu[1] if cpu else platform.machine()})"
    return f"{cores}, {memory:.0f} GiB, {gpu}, Python {platform.python_version()}"


def write_document(room: str, rows: list[Row], seconds: dict[str, float]) -> None:
    """The room's section of docs/benchmarks.md. `seconds`: by check."""
    parts = ", ".join(f"{name} {spent / 60:.0f}" for name, spent in seconds.items())
    when = f"on {datetime.now(UTC):%d %B %Y} in {sum(seconds.values()) / 60:.0f} minutes ({parts})"
    head = f"Measured by `make prove-{room}` {when}, on {machine()}."
    lines = [f"| {row.name} | {row.value} | {row.goal} | {'yes' if row.holds else '**missed**'} |" for row in rows]
    write_section(DOCUMENT, f"prove-{room}", [head, "", "| what | seen | goal | holds |", "|---|---|---|---|", *lines])


def write_section(document: Path, name: str, lines: list[str]) -> None:
    """Between the two markers of this name; a document without them gains them at its end."""
    begin, end = f"<!-- {name}: written by a benchmark -->", f"<!-- /{name} -->"
    text = document.read_text(encoding="utf8")
    if begin not in text:
        text = f"{text.rstrip()}\n\n## `{name}`\n{begin}\n{end}\n"
    before, after = text.split(begin)[0], text.split(end)[1]
    section = "\n".join(line.replace("\n", " ") for line in lines)
    document.write_text(f"{before}{begin}\n{section}\n{end}{after}", encoding="utf8")


def show(rows: list[Row]) -> None:
    table = Table("name", "value", "goal", "holds")
    for row in rows:
        table.add_row(row.name, str(row.value), row.goal, "yes" if row.holds else "[red]missed")
    Console().print(table)


def main() -> int:
    room, chosen = sys.argv[1], sys.argv[2:]
    checks: dict[str, Check] = import_module(f"benchmarks.{room}.promises").CHECKS
    FOLDER.mkdir(parents=True, exist_ok=True)
    here, partial = f"{head_revision()} on {machine()}", FOLDER / f"{room}.partial.json"

    def keep(ended: dict[str, Ended]) -> None:
        if not chosen:
            write_text(partial, json.dumps({"here": here, "ended": ended}))

    asked = {name: check for name, check in checks.items() if not chosen or name in chosen}
    ended = run_checks(asked, {} if chosen else ended_before(partial, here), keep)
    rows = [row for name in asked for row in ended[name].rows]
    show(rows)
    if not chosen:
        (FOLDER / f"{room}.json").write_text(
            json.dumps([row._asdict() for row in rows], indent=2) + "\n", encoding="utf8"
        )
        write_document(room, rows, {name: one.seconds for name, one in ended.items()})
        partial.unlink(missing_ok=True)
    return int(not rows or not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
