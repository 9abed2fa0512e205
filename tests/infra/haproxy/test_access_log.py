"""The access log is whole lines, whatever the disk does and however often it is begun anew."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.boot import now
from infra.haproxy import access_log
from infra.haproxy.access_log import AccessLog

pytestmark = pytest.mark.unit


def lines_in(folder: Path) -> list[str]:
    """Oldest first."""
    paths = sorted(folder.glob("access.jsonl*"), key=lambda path: -int(path.name.partition("jsonl.")[2] or 0))
    return [line for path in paths for line in path.read_text().splitlines()]


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), max_size=30))
def test_every_line_is_in_one_file_in_order(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = AccessLog(str(folder / "access.jsonl"), 40, 1000)
    for batch in batches:
        log.take(b"".join(b"%d\n" % number for number in batch))
    assert lines_in(folder) == [str(number) for batch in batches for number in batch]


def test_only_so_many_older_files_are_kept(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "access.jsonl"), 1, 3)
    for number in range(10):
        log.take(b"%d\n" % number)
    assert lines_in(tmp_path) == ["6", "7", "8", "9"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-I", "-S", access_log.__file__, "access.jsonl", "1000000", "2"]
    found = subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE)
    yield found
    found.kill()
    found.wait()


def test_a_full_disk_tears_no_line_and_when_there_is_room_it_goes_on(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """A file that may not grow any further stands in for the disk."""
    assert process.stdin is not None

    def say(name: str, count: int) -> None:
        assert process.stdin is not None
        process.stdin.write(b"".join(b'{"name":"%s %d"}\n' % (name.encode(), number) for number in range(count)))
        process.stdin.flush()

    def wait_for(name: str) -> list[str]:
        deadline = time.monotonic() + 20
        while not any(name in line for line in lines_in(tmp_path)):
            assert time.monotonic() < deadline, lines_in(tmp_path)[-3:]
            time.sleep(0.05)
        return [str(json.loads(line)) for line in lines_in(tmp_path)]

    say("before", 10)
    size = len(wait_for("before 9")) and (tmp_path / "access.jsonl").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 30, resource.RLIM_INFINITY))
    say("meanwhile", 10)
    time.sleep(1.5)
    assert [json.loads(line) for line in lines_in(tmp_path)][-1] == {"name": "before 9"}
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(wait_for("meanwhile 9")) == 20
    process.stdin.close()
    assert process.wait(10) == 0


def test_lines_of_lost_requests_are_kept_apart_too(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """However the pipe cuts them up."""
    well, lost = b'{"termination":"--","status":200}\n', b'{"termination":"SD","status":200}\n'
    assert process.stdin is not None
    for part in (well + lost[:9], lost[9:] + well, lost):
        process.stdin.write(part)
        process.stdin.flush()
        time.sleep(0.2)
    process.stdin.close()
    assert process.wait(20) == 0
    kept = [json.loads(line) for line in (tmp_path / "lost.jsonl").read_text().splitlines()]
    assert [row | json.loads(lost) for row in kept] == kept and len(kept) == 2
    assert all(row["boot"] == now().boot and 0 <= now().uptime - row["uptime"] < 60 for row in kept)
    assert (tmp_path / "access.jsonl").read_bytes() == (well + lost) * 2


def test_what_waits_for_room_is_bounded_and_what_was_dropped_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MOST_WAITING", 100)
    log = AccessLog(str(tmp_path / "gone" / "access.jsonl"), 10**6, 2)
    for number in range(60):
        log.take(b"line %02d\n" % number)
    assert len(log.waiting) <= 100 and log.dropped > 40
    dropped = log.dropped
    (tmp_path / "gone").mkdir()
    log.take(b"")
    found = (tmp_path / "gone" / "access.jsonl").read_text().splitlines()
    assert found[0] == f'{{"dropped_lines":{dropped}}}' and len(found) == 61 - dropped
