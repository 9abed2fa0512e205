"""Requests that were lost, by name: from the lines that the access log's writer keeps apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from infra.boot import Moment
from infra.haproxy.access_log import LOST

MOST_NAMED = 100


class LostRequest(TypedDict):
    """Its line of the access log (infra/haproxy/config.py). `server`: of the slot, `-` where none was asked."""

    at: str
    request_id: str
    key: str
    slot: str
    server: str
    status: int
    termination: str
    bytes_out: int


class LostRequests(TypedDict):
    """`named`: the first of them; `more`: the count of the rest."""

    named: list[LostRequest]
    more: int


def read_lost(folder: Path, since: Moment, until: Moment, environment: str) -> LostRequests:
    """Those of one environment that ended in [since, until), in the order of the log. What it reads is at most some
    thousand lines, whatever the traffic was: of more the oldest are not known any more."""
    rows = [
        row
        for row in rows_in(folder)
        if row.get("environment", environment) == environment
        and not is_before(moment(row), since)
        and is_before(moment(row), until)
    ]
    return {"named": [lost_request(row) for row in rows[:MOST_NAMED]], "more": len(rows[MOST_NAMED:])}


def moment(row: dict[str, Any]) -> Moment:
    return Moment(row["epoch_ms"] / 1000, str(row.get("boot", "")), float(row.get("uptime", 0)))


def is_before(one: Moment, other: Moment) -> bool:
    """Within one boot the wall clock has no say."""
    return one.uptime < other.uptime if one.boot and one.boot == other.boot else one.at < other.at


def rows_in(folder: Path) -> Iterator[dict[str, Any]]:
    """A line that is none, or counts dropped ones, is passed over."""
    for path in (folder / f"{LOST}.1", folder / LOST):
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                row = json.loads(line)
                lost_request(row), moment(row)
            except (ValueError, KeyError, TypeError):
                continue
            yield row


def lost_request(row: dict[str, Any]) -> LostRequest:
    return {
        "at": row["time"],
        "request_id": row["request_id"],
        "key": row["key"],
        "slot": row["slot"],
        "server": row.get("server", "-"),
        "status": row["status"],
        "termination": row["termination"],
        "bytes_out": row["bytes_out"],
    }
