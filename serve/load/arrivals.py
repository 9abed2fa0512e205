"""When each request of an open loop is sent: drawn from a seed, or read from sampled requests. One plan is one file: blue and green get the same.

Open, because users who wait for an answer before they ask again slow down with the server: the requests that a stall would have hit are
then never sent, and the stall hides (coordinated omission; Tene, "How NOT to measure latency", 2015). Schroeder et al., NSDI 2006, on both kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from configs.environment.load_test import LoadTest
from configs.errors import InputError

HINT = "trace: state_dir/samples, or a .jsonl or .parquet file of at, path, body (docs/operator.md)"


def poisson(rate: float, seconds: float, generator: Any) -> list[float]:
    """Arrival times in [0, seconds): independent exponential gaps of mean 1 / rate, as of many users who know nothing of each other."""
    arrivals, at = [], float(generator.exponential(1 / rate))
    while at < seconds:
        arrivals.append(at)
        at += float(generator.exponential(1 / rate))
    return arrivals


def plan_load(settings: LoadTest) -> list[dict[str, Any]]:
    """Rows {at: seconds, rate}, of a trace {at, path, body}, in order of time. Empty for a closed loop. Raises InputError for an unreadable trace."""
    import numpy

    if settings.trace:
        return replay(read_trace(Path(settings.trace)), settings.trace_speed, settings.seconds)
    rates = settings.ramp or ([settings.rate] if settings.rate else [])
    generator = numpy.random.default_rng(settings.seed)
    each = settings.seconds / max(1, len(rates))
    return [{"at": step * each + at, "rate": rate, "step": step} for step, rate in enumerate(rates) for at in poisson(rate, each, generator)]


def replay(rows: Iterable[dict[str, Any]], speed: float, seconds: float) -> list[dict[str, Any]]:
    """From the first request on, gaps divided by `speed`; what would come after `seconds` is left out."""
    ordered = sorted(rows, key=lambda row: float(row["at"]))
    shifted = [{"at": (float(row["at"]) - float(ordered[0]["at"])) / speed, "path": row["path"], "body": row["body"]} for row in ordered]
    return [row for row in shifted if row["at"] < seconds]


def read_trace(path: Path) -> list[dict[str, Any]]:
    """Rows of at, path, body and what else was sampled; of a folder, as sampling fills it, all of its files. Raises InputError for what is none."""
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    rows = [row for one in paths for row in (read_parquet(one) if one.suffix == ".parquet" else read_lines(one))]
    for number, row in enumerate(rows, 1):
        if not (isinstance(row, dict) and isinstance(row.get("at"), int | float) and isinstance(row.get("path"), str) and isinstance(row.get("body"), dict)):
            raise InputError(f"{path}: row {number} is {str(row)[:80]}, expected at (seconds), path and body", hint=HINT)
    if not rows:
        raise InputError(f"{path}: no requests in it", hint=HINT)
    return rows


def read_lines(path: Path) -> list[Any]:
    """A last line that a kill cut short is left out."""
    lines = path.read_text(encoding="utf8").splitlines()
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise InputError(f"{path}:{number}: found {line[:60]!r}, expected a JSON object", hint=HINT) from None
    return rows


def read_parquet(path: Path) -> list[Any]:
    """Bodies and answers are JSON texts there, for no two need have the same keys."""
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [row | {name: json.loads(row[name]) for name in ("body", "answer") if isinstance(row.get(name), str)} for row in rows]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {str(error)[:120]}", hint=HINT) from error


def write_parquet(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """What `read_parquet` reads. Whole or not at all, and its owner's alone: what users wrote is in it."""
    import pyarrow
    import pyarrow.parquet

    texts = [row | {name: json.dumps(row[name]) for name in ("body", "answer") if name in row} for row in rows]
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), partial)
    partial.replace(path)


def write_plan(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
