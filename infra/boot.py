"""What no step of the wall clock moves: this boot of the machine, the seconds since it, processes by their start."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Moment(NamedTuple):
    """`at`: seconds since the epoch by the wall clock, for people and across boots. `boot`: of which boot it is; empty
    where an earlier tunegate wrote it. `uptime`: seconds since that boot, suspended ones too (clock_gettime(2),
    CLOCK_BOOTTIME)."""

    at: float
    boot: str = ""
    uptime: float = 0.0

    @property
    def iso(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")

    def since(self, earlier: Moment) -> float:
        """Seconds, never below 0. Within one boot the wall clock has no say. What was before this boot lies at least
        the whole of it back, however far ahead the clock then was."""
        if earlier.boot == self.boot:
            return max(self.uptime - earlier.uptime if self.boot else self.at - earlier.at, 0.0)
        return max(self.at - earlier.at, self.uptime if earlier.boot else 0.0)


def now() -> Moment:
    return Moment(time.time(), boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME))


@cache
def boot_id() -> str:
    """Of random(4); twelve of its digits are enough to tell two boots apart."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").replace("-", "")[:12]


class ProcessId(NamedTuple):
    """One process, which no other one can be taken for: a pid is given again, and never within a boot at the same
    `ticks`, clock ticks between boot and its start (proc_pid_stat(5), field 22)."""

    pid: int
    boot: str
    ticks: int


def identify(pid: int) -> ProcessId | None:
    """Who has this pid now; None where nobody does, or a zombie that only waits to be buried."""
    found = read_stat(pid)
    return ProcessId(pid, boot_id(), int(found[19])) if found and found[0] not in "ZX" else None


def read_stat(pid: int) -> list[str] | None:
    """Fields 3 and on: the name, field 2, may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None


def age_of(process: ProcessId) -> float:
    """Seconds since its start, to a clock tick (10 ms)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.ticks / os.sysconf("SC_CLK_TCK")


def is_alive(process: ProcessId) -> bool:
    return identify(process.pid) == process


def is_taken(process: ProcessId) -> bool:
    """True if another process has the pid now, or may have it: it was given in another boot."""
    found = read_stat(process.pid)
    return process.boot != boot_id() or (found is not None and int(found[19]) != process.ticks)


def words_of(pid: int) -> list[str]:
    """Its arguments; none where it is gone or somebody else's."""
    return read_words(f"/proc/{pid}/cmdline")


def bears(pid: int, mark: str) -> bool:
    """Whether its arguments or the environment that it was started with hold `mark`. One that has given itself a title
    may have written over both: then the title must hold it."""
    return any(mark in word for file in ("cmdline", "environ") for word in read_words(f"/proc/{pid}/{file}"))


def read_words(path: str) -> list[str]:
    try:
        return Path(path).read_bytes().decode("utf8", "replace").split("\0")
    except OSError:
        return []


def members_of(group: int) -> list[int]:
    """Pids in a process group."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if (found := read_stat(pid)) and int(found[2]) == group and found[0] not in "ZX"]
