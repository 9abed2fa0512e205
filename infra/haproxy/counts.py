"""HAProxy's counters of one process, and the process that keeps those of one that a reload replaces.

python -I -S counts.py PID:BOOT:TICKS

The replaced HAProxy gives up its listeners, the admin socket among them; a connection that was made before stays open,
and HAProxy does not end before it is closed. So its last counts are read after its last stream, whoever else is dead.
Standard library only, for it is started by its path.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

COLUMNS = ("scur", "stot", "wredis", "hrsp_5xx", "econ", "eresp", "srv_abrt", "cli_abrt")
LOOK_SECONDS = 0.25
LONGEST_SILENCE = 60.0  # seconds; a HAProxy that does not answer for longer is given up
Counts = dict[str, dict[str, int]]  # by PROXY/SERVER and the column of `show stat`


class Kept(TypedDict):
    """Of one replaced process, by the process `keeper`. `stopping`: it took no new connections any more when this was
    counted."""

    keeper: int
    stopping: bool
    counts: Counts


class Replaced(TypedDict):
    """replaced.json. `processes`: by PID:BOOT:TICKS; `ended`: the sum of those before them."""

    ended: Counts
    processes: dict[str, Kept]


def read_counts(stat: str) -> Counts:
    """Of `show stat`. A server that nobody was ever sent to has no row: of a slot's room most have no pod."""
    header, *rows = csv.reader(io.StringIO(stat.strip().removeprefix("# ")))
    proxy, server, total, *columns = map(header.index, ("pxname", "svname", "stot", *COLUMNS))
    return {
        f"{row[proxy]}/{row[server]}": {name: int(row[at] or 0) for name, at in zip(COLUMNS, columns, strict=True)}
        for row in rows
        if row and (row[total] != "0" or row[server] in ("FRONTEND", "BACKEND"))
    }


def read_facts(info: str) -> dict[str, str]:
    """Of `show info`."""
    return dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)


def read_replaced(folder: Path) -> Replaced:
    try:
        found: Replaced = json.loads((folder / "replaced.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {"ended": {}, "processes": {}}
    return found


@contextlib.contextmanager
def changed(folder: Path) -> Iterator[Replaced]:
    """Read, change, write whole: one process at a time. Raises OSError where the disk takes nothing more."""
    with (folder / "replaced.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read_replaced(folder)
        yield found
        partial = folder / "replaced.json.partial"
        partial.write_text(json.dumps(found), encoding="ascii")
        partial.replace(folder / "replaced.json")


class Connection:
    """To the admin socket, for many questions. Raises OSError where HAProxy is gone."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LONGEST_SILENCE)
        self.socket.connect(path)
        self.ask("prompt")

    def ask(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\n")
        said = b""
        while not said.endswith(b"\n> "):
            part = self.socket.recv(1 << 16)
            if not part:
                raise ConnectionResetError
            said += part
        return said[:-2].decode()


def main(process: str) -> None:
    """Until the process has no connection any more, or is gone: then what was counted last is what is known of it."""
    admin, before = Connection("admin.sock"), None
    while True:
        info = read_facts(admin.ask("show info"))
        if info["Pid"] != process.partition(":")[0]:
            raise SystemExit(f"the admin socket is {info['Pid']}'s")
        is_stopping = info["Stopping"] == "1"
        now: Kept = {"keeper": os.getpid(), "stopping": is_stopping, "counts": read_counts(admin.ask("show stat"))}
        if now != before:
            with contextlib.suppress(OSError):  # a full disk: it is tried again
                with changed(Path()) as found:
                    if before and process not in found["processes"]:
                        raise SystemExit("it was taken for dead")
                    found["processes"][process] = now
                before = now
        if is_stopping and info["CurrConns"] == "0" and now == before:
            return
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        main(sys.argv[1])
