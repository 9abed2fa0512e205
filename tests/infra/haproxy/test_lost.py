"""What was lost is told from what ended well, was refused for its own sake or left by its client; reading it costs as
much however long the log is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.boot import Moment
from infra.haproxy import access_log
from infra.haproxy.access_log import AccessLog, is_lost
from infra.haproxy.lost import MOST_NAMED, read_lost

pytestmark = pytest.mark.unit


def line(number: int = 0, **facts: Any) -> bytes:
    row = {
        "time": "2026-11-28T09:00:00Z",
        "request_id": f"r{number}",
        "key": "team",
        "method": "POST",
        "path": "/v1/chat/completions",
        "slot": "blue",
        "server": "blue-2",
        "release": "sha256:aa",
        "termination": "SD",
        "epoch_ms": 1000 * number,
        "status": 200,
        "bytes_in": 10,
        "bytes_out": 345,
    }
    return json.dumps(row | facts, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("termination", "status", "lost"),
    [
        ("--", 200, False),
        ("--", 500, False),  # the model server's own words
        ("CD", 200, False),
        ("cD", 408, False),
        ("LR", 200, False),
        ("LR", 401, False),
        ("PR", 429, False),
        ("LR", 503, True),
        ("SD", 200, True),
        ("sD", 200, True),
        ("SH", 502, True),
        ("sH", 504, True),
        ("SC", 503, True),
        ("sQ", 503, True),
        ("KD", 200, True),
    ],
)
def test_lost_is_who_stayed_and_got_no_whole_answer(termination: str, status: int, lost: bool) -> None:
    assert is_lost(line(termination=termination, status=status)) is lost


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"dropped_lines":3}', b'{"termination":""}', b"\xff{"])
def test_a_line_that_is_none_is_not_lost_and_stops_nobody(text: bytes, tmp_path: Path) -> None:
    assert not is_lost(text)
    (tmp_path / "lost.jsonl").write_bytes(text + b"\n" + line(1))
    assert [one["request_id"] for one in read_lost(tmp_path, Moment(0), Moment(10), "x")["named"]] == ["r1"]


def test_nobody_can_talk_a_line_out_of_it(tmp_path: Path) -> None:
    assert is_lost(line(path='/"termination":"--"', key='"termination":"--"'))


@given(ends=st.lists(st.integers(0, 60), max_size=300), since=st.integers(0, 60), seconds=st.integers(0, 60))
def test_the_first_hundred_of_a_window_are_named_and_the_rest_is_counted(
    tmp_path_factory: pytest.TempPathFactory, ends: list[int], since: int, seconds: int
) -> None:
    folder = tmp_path_factory.mktemp("router")
    half = len(ends) // 2
    (folder / "lost.jsonl.1").write_bytes(b"".join(line(end) for end in ends[:half]))
    (folder / "lost.jsonl").write_bytes(b"".join(line(end) for end in ends[half:]))
    found = read_lost(folder, Moment(since), Moment(since + seconds), "x")
    expected = [end for end in ends if since <= end < since + seconds]
    assert [one["request_id"] for one in found["named"]] == [f"r{end}" for end in expected[:MOST_NAMED]]
    assert found["more"] == max(0, len(expected) - MOST_NAMED)


def test_within_a_boot_a_step_of_the_wall_clock_moves_nothing(tmp_path: Path) -> None:
    """It was set back by an hour after the first, and the last is of another boot."""
    rows = [line(5000, boot="b", uptime=10), line(1410, boot="b", uptime=20), line(1420, boot="c", uptime=1)]
    (tmp_path / "lost.jsonl").write_bytes(b"".join(rows))
    found = read_lost(tmp_path, Moment(5001, "b", 11), Moment(1415, "b", 25), "x")
    assert [one["request_id"] for one in found["named"]] == ["r1410"]
    found = read_lost(tmp_path, Moment(1415, "c", 0.5), Moment(1425, "c", 5), "x")
    assert [one["request_id"] for one in found["named"]] == ["r1420"]


def test_a_line_of_an_earlier_version_names_no_server(tmp_path: Path) -> None:
    row = json.loads(line(1))
    del row["server"]
    (tmp_path / "lost.jsonl").write_text(json.dumps(row))
    (found,) = read_lost(tmp_path, Moment(0), Moment(10), "x")["named"]
    assert (found["server"], found["slot"], found["bytes_out"]) == ("-", "blue", 345)


def test_what_is_kept_apart_is_bounded(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "lost.jsonl"), access_log.LOST_BYTES, 1)
    for number in range(40):
        log.take(b"".join(line(number * 1000 + at) for at in range(1000)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 * access_log.LOST_BYTES
    newest = read_lost(tmp_path, Moment(39_000), Moment(40_000), "x")
    assert newest["named"][0]["request_id"] == "r39000" and newest["more"] == 1000 - MOST_NAMED
