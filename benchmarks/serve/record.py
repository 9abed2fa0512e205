"""What ten years of record cost an agent's turn: a hundred thousand events, and one more.

.venv/bin/python -m benchmarks.serve.record
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.prove import FOLDER, Row
from infra.boot import now
from infra.files.sealed_log import sealed
from serve.record.event import PROOF
from serve.record.reader import Reader, snapshot_path
from serve.record.record import Record

EVENTS, TURNS, LOOKS = 100_000, 50, 10  # a turn looks at the state as often
GOAL_MILLISECONDS = 50.0
RECEIPT: dict[str, object] = {
    "from": {"slot": None, "release": None},
    "to": {"slot": "blue", "release": "x"},
    "strategy": "blue-green",
    "capacity": "surge",
    "streams_open_at_flip": {"blue": 1, "green": 2},
    "requests_by_release": {},
    **dict.fromkeys(("flip_milliseconds", "first_request_milliseconds", "seconds_watched"), 1.0),
    **dict.fromkeys(("longest_drain_seconds", "longest_queue_wait_seconds"), 1.0),
    **dict.fromkeys(("streams_open_at_switch", "streams_completed", "streams_left_by_client", "streams_cut"), 1),
    **dict.fromkeys(("streams_still_open", "requests_since", "requests_failed"), 1),
}
COUNTS = {"open": 0, "total": 9, "failed": 0, "cut_by_server": 0, "left_by_client": 0}


def story() -> Iterator[dict[str, object]]:
    """Deploy after deploy, each a release of its own, blue and green in turn; now and then a server dies."""
    number = 0
    while True:
        number += 1
        slot, release = ("blue", "green")[number % 2], f"model@sha256:{number:064x}"
        before = {"blue": COUNTS, "green": COUNTS}
        yield {"kind": "acquired", "facts": {"token": number, "pid": 1, "host": "h", "command": "agent"}}
        yield {"kind": "desired", "facts": {"release": release}}
        yield {"kind": "starting", "slot": slot, "facts": {"release": release}}
        yield {"kind": "started", "slot": slot, "facts": {"pid": 1, "boot": "b", "ticks": 1, "port": 1, "log": "x"}}
        for proof in PROOF:
            yield {"kind": "proven", "slot": slot, "facts": {"proof": proof, "seconds": 1.0}}
        yield {"kind": "switching", "slot": slot, "facts": {}}
        flip = {"flip_milliseconds": 1.0, "first_request_milliseconds": 2.0, "streams_open_at_switch": 3}
        ends = {"from": None, "from_release": None, "before": before, "counted": {}}
        yield {"kind": "switched", "slot": slot, "facts": ends | flip}
        yield {"kind": "baked", "slot": slot, "facts": RECEIPT | {"at": "x"}}
        if number % 10 == 0:
            yield {"kind": "crashed", "slot": slot, "facts": {"why": "its process ended", "release": release}}


def write_record(path: Path, count: int) -> None:
    """As the agent would have, in one go: a day is a deploy."""
    content, moment = b"", now()
    with path.open("wb") as stream:
        for number, event in zip(range(count), story(), strict=False):
            at = moment._replace(at=moment.at - (count - number) * 3_000, uptime=float(number))
            body = json.dumps({"at": at.iso, "boot": at.boot, "uptime": at.uptime, "slot": None} | event)
            line, _ = sealed(content, body.encode())
            content = line  # all that the next seal needs
            stream.write(line)


def rows() -> list[Row]:
    folder = FOLDER / "record"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "events.jsonl"
    write_record(path, EVENTS)
    first = seconds_of_reading(path)
    record = Record(path)
    record.append("paused")  # keeps a snapshot
    again = seconds_of_reading(path)
    turns = []
    for _ in range(TURNS):
        began = time.perf_counter()
        record.append("resumed")
        for _ in range(LOOKS):
            record.state()
        turns.append(1000 * (time.perf_counter() - began))
    size = path.stat().st_size / 2**20
    worst, middle = max(turns), statistics.median(turns)
    return [
        Row(
            f"a turn (an event written, {LOOKS} looks at the state) over {EVENTS:,} events, {size:.0f} MiB: "
            f"median {middle:.1f} ms, longest of {TURNS}, ms",
            round(worst, 1),
            f"under {GOAL_MILLISECONDS:g}",
            worst < GOAL_MILLISECONDS,
        ),
        Row(
            f"a new process reads the same from its snapshot ({first:.2f} s without one), s",
            round(again, 3),
            "a tenth of it at most",
            again <= first / 10 and snapshot_path(path).exists(),
        ),
    ]


def seconds_of_reading(path: Path) -> float:
    began = time.perf_counter()
    Reader(path).now()
    return time.perf_counter() - began


if __name__ == "__main__":
    for row in rows():
        print(row)
