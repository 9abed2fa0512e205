"""The record is folded as it grows, from a snapshot where there is one, and nothing in it is ever skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError
from infra.files.sealed_log import append
from serve.record import reader
from serve.record.event import Event
from serve.record.fold import fold
from serve.record.reader import Reader, read_back, read_events, read_snapshot, snapshot_path
from serve.record.record import Record
from tests.support.old_records import OLD_RECORD

pytestmark = pytest.mark.unit
RELEASE = "a@sha256:" + "a" * 64


def line_of(number: int, kind: str = "keyed", **facts: object) -> bytes:
    facts = facts or {"change": "added", "name": f"team {number}"}
    return json.dumps({"at": "2026-11-28T00:00:00.000+00:00", "kind": kind, "facts": facts}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record = Record(tmp_path / "events.jsonl")
    record.append("acquired", token=1, pid=1, host="h", command="agent")
    record.append("desired", release=RELEASE)
    record.append("starting", "blue", release=RELEASE)
    record.append("switched", "blue")
    return record.path


def test_a_real_day_reads_the_same_in_one_go_and_in_pieces(tmp_path: Path) -> None:
    lines, path = OLD_RECORD.read_bytes().splitlines(keepends=True), tmp_path / "events.jsonl"
    onward = Reader(path)
    for start in range(0, len(lines), 7):
        with path.open("ab") as stream:
            stream.writelines(lines[start : start + 7])
        assert onward.now() == fold(read_events(path))
    assert list(read_back(path, block=100)) == list(read_events(path))[::-1]


def test_a_snapshot_of_any_moment_leads_to_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, path = OLD_RECORD.read_bytes().splitlines(keepends=True), tmp_path / "events.jsonl"
    monkeypatch.setattr(reader, "SNAPSHOT_BYTES", 0)
    for count in range(1, len(lines), 11):
        path.write_bytes(b"".join(lines[:count]))
        kept = Reader(path)
        kept.now()
        kept.keep()
        path.write_bytes(b"".join(lines))
        found = read_snapshot(path)
        assert found is not None and found[3] == count
        assert Reader(path).now() == fold(read_events(path)), count


def test_a_snapshot_of_another_record_or_another_fold_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Reader(path)
    kept.now()
    monkeypatch.setattr(reader, "SNAPSHOT_BYTES", 0)
    kept.keep()
    facts = json.loads(snapshot_path(path).read_text())
    for wrong in ({"version": "x"}, {"seal": "0" * 64}, {"offset": 10}, {"state": {"active": 7}}, {"state": None}):
        snapshot_path(path).write_text(json.dumps(facts | wrong))
        assert read_snapshot(path) is None and Reader(path).now().active == "blue"
    snapshot_path(path).write_text("{")
    assert Reader(path).now().active == "blue"


@given(st.data())
def test_one_changed_byte_stops_whoever_reads_on(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content, path = OLD_RECORD.read_bytes()[:6000], tmp_path_factory.mktemp("damaged") / "events.jsonl"
    content = content[: content.rindex(b"\n") + 1]
    place = data.draw(st.integers(0, len(content) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != content[place]))
    path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    with pytest.raises(ExternalError, match=r"line \d+ (does not follow|bears no seal|cannot be read)"):
        Reader(path).now()


def test_a_kind_that_this_version_does_not_know_stops_the_reader_with_its_line(path: Path) -> None:
    append(path, line_of(5, "teleported"))
    with pytest.raises(ExternalError, match=r"line 5: this version does not know the kind 'teleported'"):
        Record(path).state()


def test_what_another_process_has_half_written_is_waited_for(path: Path) -> None:
    onward = Reader(path)
    before, whole = onward.now(), path.read_bytes()
    append(path, line_of(5, "paused", why="x"))
    line = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + line[:20])
    assert onward.now() == before
    path.write_bytes(whole + line)
    assert onward.now().wanted.paused


def test_a_record_that_was_replaced_is_read_from_its_beginning(path: Path, tmp_path: Path) -> None:
    onward = Reader(path)
    assert onward.now().active == "blue"
    other = Record(tmp_path / "other.jsonl")
    other.append("desired", release=RELEASE)
    other.path.replace(path)
    assert onward.now().active is None
    path.unlink()
    assert onward.now().wanted.desired is None


def test_a_turn_reads_what_is_new_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(path)
    record.state()
    read: list[int] = []
    follow = reader.read_line
    monkeypatch.setattr(reader, "read_line", lambda *one: (read.append(one[1]), follow(*one))[1])
    for _ in range(3):
        record.append("keyed", change="added", name="team")
        record.state()
        record.check_token()
    assert read == [5, 6, 7]


def test_crashes_of_yesterday_are_forgotten_and_those_of_today_are_not() -> None:
    def crash(hours: int) -> Event:
        at = f"2026-11-{20 + hours // 24}T{hours % 24:02}:00:00+00:00"
        return Event(at=at, kind="crashed", slot="blue", facts={"why": "x", "release": RELEASE})

    assert len(fold([crash(hours) for hours in range(0, 100)]).crashes) == 25
