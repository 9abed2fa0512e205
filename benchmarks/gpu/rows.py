"""Rows of the GPU parts: one JSON line each, on disk before the next thing is measured, so that a part that is killed
keeps what it saw."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.prove import FOLDER

MISSED = 4  # what a part ends with where a goal was missed; Python itself ends with 1 where it broke
ROWS = FOLDER.absolute() / "gpu.jsonl"


def write_row(part: str, name: str, value: object, goal: str = "", holds: bool | None = None, **facts: Any) -> bool:
    """Appends a row with the device's name; whether it held. `holds`: None where nothing is aimed at."""
    row = {"part": part, "device": device_name(), "name": name, "value": value} | facts
    row |= {"goal": goal, "holds": holds} if goal else {}
    line = json.dumps(row)
    # $OUT comes back from a lent machine, and is emptied before its next command; ROWS stays there.
    for path in {ROWS, Path(os.environ.get("OUT") or ROWS.parent) / ROWS.name}:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    print(line, flush=True)
    return holds is not False


def read_rows(part: str) -> dict[str, dict[str, Any]]:
    """By name, the last of each that a part has written."""
    lines = ROWS.read_text(encoding="utf8").splitlines() if ROWS.exists() else []
    return {row["name"]: row for row in map(json.loads, lines) if row["part"] == part}


@cache
def device_name() -> str:
    from infra.nvml import devices

    return ", ".join(one.name for one in devices()) or "a CPU"


def gpu_held_gib() -> float | None:
    """What all processes hold of the GPUs, by NVML; None without one."""
    from infra.nvml import devices

    here = devices()
    return round(sum(one.total_gib - one.free_gib for one in here), 3) if here else None
