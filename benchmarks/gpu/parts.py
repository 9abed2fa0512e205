"""The GPU parts, in order of worth, each in a process of its own that ends at its time limit.

.venv/bin/python -m benchmarks.gpu                   # all; without a GPU: exit code 3
.venv/bin/python -m benchmarks.gpu train serve       # only these
.venv/bin/python -m benchmarks.gpu sleep --tiny      # the same way with a model of two layers, on a CPU too
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.rows import MISSED, ROWS, device_name, gpu_held_gib, write_row

MOST_SECONDS = 240
MARK = "PROVE_GPU_PART"  # in the environment of all that a part starts: servers lie in sessions of their own
GRACE_SECONDS = 10
FREE_GIB = 0.5  # so near to what the GPU held before, all has come back


class Part(NamedTuple):
    """One file of this folder, and the seconds after which it ends."""

    module: str
    seconds: int


PARTS = {
    "train": Part("training", 240),
    "serve": Part("serving", 130),
    "switch": Part("switching", 200),
    "sleep": Part("sleeping", 100),
    "plan": Part("planning", 50),
}


def main(arguments: Sequence[str]) -> int:
    tiny, chosen = "--tiny" in arguments, [one for one in arguments if one != "--tiny"]
    if unknown := [one for one in chosen if one not in PARTS]:
        print(f"found {', '.join(unknown)}, expected some of {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if device_name() == "a CPU" and not tiny:
        print("no GPU here (NVML finds none); the rehearsal: python -m benchmarks.gpu --tiny", file=sys.stderr)
        return 3
    # No promise is one of a rehearsal: that its parts come to their ends is.
    fine, held = {"its goals held", *(["a goal was missed"] if tiny else [])}, True
    for name in chosen or PARTS:
        words = [sys.executable, "-m", f"benchmarks.gpu.{PARTS[name].module}", *(["--tiny"] if tiny else [])]
        held &= run_part(name, words, PARTS[name].seconds) in fine
    print(f"rows: {ROWS}", file=sys.stderr)
    return 0 if held else 1


def run_part(name: str, words: Sequence[str], seconds: float) -> str:
    """How it ended. What it left running ends with it, so that the next one has the whole GPU."""
    mark, started, held = secrets.token_hex(8), time.monotonic(), gpu_held_gib() or 0.0
    process = subprocess.Popen(words, env=os.environ | {MARK: mark, "PYTHONUNBUFFERED": "1"}, start_new_session=True)
    try:
        how = {0: "its goals held", MISSED: "a goal was missed"}.get(
            code := process.wait(seconds), f"broke, exit code {code}"
        )
    except subprocess.TimeoutExpired:
        how = f"stopped at its limit of {seconds:g} s"
        process.terminate()
    finally:
        end_marked(mark)
        process.wait()
        wait_for_memory(held)
    write_row(name, "ended", how, "its goals held", how == "its goals held", seconds=since(started))
    return how


def end_marked(mark: str) -> None:
    """SIGTERM to all that bears the mark, SIGKILL to what is there after the grace."""
    deadline, sessions = time.monotonic() + GRACE_SECONDS, set[int]()
    for pid in left_of(mark, sessions):
        send(pid, signal.SIGTERM)
    while (left := left_of(mark, sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        send(pid, signal.SIGKILL)


def wait_for_memory(held_gib: float) -> None:
    """A GPU's memory comes back a while after its holder has ended."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (gpu_held_gib() or 0.0) > held_gib + FREE_GIB and time.monotonic() < deadline:
        time.sleep(0.2)


def left_of(mark: str, sessions: set[int]) -> list[int]:
    """Processes that were started with the mark in their environment and have not ended, and all of their sessions: a
    process that gives itself a title, as vLLM's do, writes it over its environment. `sessions` gains those seen."""
    running = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            pid = int(path.parent.name)
            state = (path.parent / "stat").read_text(encoding="utf8").rpartition(")")[2].split()[0]
            if state != "Z":  # one that has ended and is not waited for
                running[pid] = os.getsid(pid)
                if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                    sessions.add(running[pid])
    return [pid for pid, session in running.items() if session in sessions]


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def since(started: float) -> float:
    return round(time.monotonic() - started, 1)
