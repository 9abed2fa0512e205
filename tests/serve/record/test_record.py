"""The record: append-only, whole lines only, and a state that is nothing but its fold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.pin import pin
from configs.errors import ExternalError, InputError
from configs.slots import other
from serve.record.event import PROOF
from serve.record.fold import fold
from serve.record.record import Record

pytestmark = pytest.mark.unit
RELEASE = "a@sha256:" + "a" * 64


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "deep" / "events.jsonl")


def test_no_record_is_an_empty_state(record: Record) -> None:
    assert record.read() == [] and record.state().active is None


def test_events_come_back_in_order_with_their_facts(record: Record) -> None:
    record.append("desired", release=RELEASE)
    record.append("starting", "blue", release=RELEASE)
    record.append("started", "blue", pid=7, create_time=1.5, port=8101, log="x")
    for proof in PROOF:
        record.append("proven", "blue", proof=proof)
    state = record.state()
    assert state.wanted.desired == RELEASE and state.slots["blue"] is not None
    assert state.slots["blue"].process == {"pid": 7, "create_time": 1.5, "port": 8101, "log": "x"}
    assert state.slots["blue"].proofs == set(PROOF) and state.slots["green"] is None


def test_starting_again_forgets_what_was_proven(record: Record) -> None:
    record.append("starting", "blue", release=RELEASE)
    record.append("proven", "blue", proof="healthy")
    record.append("starting", "blue", release=RELEASE)
    assert record.state().slots["blue"].proofs == frozenset()  # type: ignore[union-attr]  # it was just started


def test_the_intent_to_switch_is_not_the_switch(record: Record) -> None:
    record.append("switching", "green")
    assert (record.state().active, record.state().moves.switching) == (None, "green")
    record.append("switched", "green", flip_milliseconds=3.0)
    assert (record.state().active, record.state().moves.switching, record.state().baked) == ("green", None, False)


def test_stopping_everything_leaves_nothing_active(record: Record) -> None:
    record.append("starting", "blue", release=RELEASE)
    record.append("switched", "blue")
    record.append("stopped", "blue")
    assert record.state().active is None and record.state().slots["blue"] is None


def test_a_later_holder_ends_the_work_of_the_one_before_and_a_wish_needs_no_token(record: Record) -> None:
    record.append("acquired", token=1)
    first = Record(record.path, 1)
    first.append("desired", release=RELEASE)
    record.append("acquired", token=2)
    for act in (first.check_token, lambda: first.append("switching", "green")):
        with pytest.raises(ExternalError, match="holder 2 has taken over from holder 1"):
            act()
    Record(record.path, 2).append("paused")
    record.append("resumed")
    assert [event.kind for event in record.read()] == [
        "acquired",
        "desired",
        "acquired",
        "paused",
        "resumed",
    ] and record.state().token == 2


def test_a_disk_that_takes_no_more_is_said_as_such(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExternalError, match=r"cannot be written: No space left on device(.|\n)*df -h"):
        record.append("desired", release=RELEASE)


@given(cut=st.integers(1, 60))
def test_a_torn_last_line_is_dropped_and_the_next_append_is_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    record = Record(tmp_path_factory.mktemp("torn") / "events.jsonl")
    record.append("desired", release=RELEASE)
    line = record.path.read_bytes()
    record.path.write_bytes(line + line[:cut])
    record.append("promoted", release=RELEASE)
    assert [event.kind for event in record.read()] == ["desired", "promoted"]


def test_a_new_wish_clears_the_refusal(record: Record) -> None:
    record.append("desired", release=RELEASE)
    record.append("refused", why="parity")
    assert record.state().refused == "parity"
    record.append("desired", release=RELEASE)
    assert record.state().refused is None


def test_folding_in_two_halves_is_folding_at_once(record: Record) -> None:
    for kind in ("desired", "refused", "desired"):
        record.append(kind, release=RELEASE, why="x")
    assert fold(record.read()) == record.state() and other(other("blue")) == "blue"


def test_a_pin_changes_one_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text("# tunegate deploy local\nname: local\nrelease: null  # what serves\nmodel: m\n")
    assert pin(path, RELEASE)
    assert path.read_text() == f"# tunegate deploy local\nname: local\nrelease: {RELEASE}  # what serves\nmodel: m\n"
    assert not pin(path, RELEASE)


def test_a_file_without_a_release_line_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text("name: local\n")
    with pytest.raises(InputError, match="release:"):
        pin(path, RELEASE)
    assert path.read_text() == "name: local\n"
