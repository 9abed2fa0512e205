"""Logs that other programs append to: their ends, and a new one where one has grown."""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 16 << 20
LONGEST_LINE = 200


def end_of(log: Path, lines: int, block: int = 1 << 16) -> list[str]:
    """The last lines, read from the end; each cut to 200 characters. Empty where there is no log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - block))
            found = stream.read().decode("utf8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return [line[:LONGEST_LINE] for line in found[-lines:]]


def begin_anew(log: Path, most_bytes: int = MOST_BYTES) -> None:
    """Before a program is started that appends to it: a large one becomes LOG.1, in the place of the one before."""
    if log.exists() and log.stat().st_size >= most_bytes:
        log.replace(log.with_name(f"{log.name}.1"))
