"""The HAProxy processes that a reload replaced: their streams go on to their own end, and count.

Each has a process beside it that keeps its counts (infra/haproxy/counts.py) in replaced.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ExternalError
from infra.boot import ProcessId, identify, is_alive, is_taken, words_of
from infra.haproxy import counts as script
from infra.haproxy.counts import Counts, Kept, changed, read_replaced
from infra.haproxy.process import ARGUMENTS, own_environment

START_SECONDS = 10
TAKEOVER_SECONDS = 2.0


@dataclass(frozen=True)
class ReplacedProcesses:
    """Of the router whose files lie in `folder`."""

    folder: Path

    def keep(self, process: ProcessId) -> subprocess.Popen[bytes]:
        """Before `process` is replaced. The keeper, that its caller may end where nothing comes of it.

        Raises ExternalError where it cannot count.
        """
        name = name_of(process)
        self.add_up()
        with (self.folder / "haproxy.log").open("ab") as words:
            keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script.__file__), name],
                cwd=self.folder,
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and keeper.poll() is None:
            kept = read_replaced(self.folder)["processes"].get(name)
            if kept and kept["keeper"] == keeper.pid:
                return keeper
            time.sleep(0.02)
        keeper.kill()
        raise ExternalError(
            f"nobody can count the streams of the router's process {process.pid}",
            hint=f"less {self.folder}/haproxy.log",
        )

    def add_up(self) -> None:
        """Those that have ended become one sum, so that the file does not grow over the years."""
        with changed(self.folder) as found:
            ended = {key: one for key, one in found["processes"].items() if not is_alive(process_of(key))}
            found["ended"] = summed([found["ended"], *map(last_counts, ended.values())])
            found["processes"] = {key: one for key, one in found["processes"].items() if key not in ended}

    def begin_anew(self) -> None:
        """The router starts at zero. What its processes before still have open is counted on from here."""
        with changed(self.folder) as found:
            found["processes"] = {key: one for key, one in found["processes"].items() if is_alive(process_of(key))}
            so_far = summed(one["counts"] for one in found["processes"].values())
            found["ended"] = {
                server: {name: -count for name, count in row.items() if name != "scur"}
                for server, row in so_far.items()
            }

    def counts(self, current: int) -> Counts:
        """The sum of all but the process `current`, which counts itself."""
        found = read_replaced(self.folder)
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while any(is_taking_over(key, one, current) for key, one in found["processes"].items()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
            found = read_replaced(self.folder)
        others = {process_of(key): one for key, one in found["processes"].items() if is_other(process_of(key), current)}
        return summed(
            [found["ended"], *(one["counts"] if is_alive(who) else last_counts(one) for who, one in others.items())]
        )

    def alive(self) -> list[int]:
        """Their pids, the present one's too while a reload goes on."""
        processes = map(process_of, read_replaced(self.folder)["processes"])
        return [process.pid for process in processes if is_alive(process)]

    def uncounted(self, current: int | None) -> list[int]:
        """Processes of this router that nobody counts: an earlier tunegate replaced them."""
        known, here = {current, *self.alive()}, self.folder.resolve()
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in known]
        return [
            pid for pid in pids if words_of(pid)[1:4] == list(ARGUMENTS) and folder_of(pid) in (here, here / "empty")
        ]


def name_of(process: ProcessId) -> str:
    return ":".join(map(str, process))


def process_of(name: str) -> ProcessId:
    pid, boot, ticks = name.split(":")
    return ProcessId(int(pid), boot, int(ticks))


def folder_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True)
    except OSError:
        return None


def is_other(process: ProcessId, current: int) -> bool:
    """A pid is given again."""
    return process.pid != current or is_taken(process)


def is_taking_over(name: str, kept: Kept, current: int) -> bool:
    """For a moment: the new process answers, and the old one's last look is older than that."""
    process = process_of(name)
    return (
        process.pid != current and not kept["stopping"] and is_alive(process) and identify(kept["keeper"]) is not None
    )


def last_counts(kept: Kept) -> Counts:
    """Of a process that is gone: what it had open was cut, by a kill or its deadline."""
    return {
        server: row | {"scur": 0, "srv_abrt": row["srv_abrt"] + row["scur"]} for server, row in kept["counts"].items()
    }


def summed(every: Iterable[Counts]) -> Counts:
    found: Counts = {}
    for counts in every:
        for server, row in counts.items():
            before = found.get(server, {})
            found[server] = before | {name: before.get(name, 0) + count for name, count in row.items()}
    return found
