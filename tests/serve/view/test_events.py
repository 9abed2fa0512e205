"""The record on the operator's screen: one line an event, the kinds asked for, the last few, and those to come."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import InputError
from serve.record.environment import Environment
from serve.record.state import Event
from serve.view.events import in_one_line, read_events

pytestmark = pytest.mark.unit
RELEASE = "calls@sha256:" + "a" * 64
AT = "2026-11-25T12:00:01.234+00:00"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    return Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))


@pytest.fixture
def recorded(env: Environment) -> Environment:
    env.record.append("desired", release=RELEASE)
    env.record.append("starting", "blue", release=RELEASE)
    env.record.append("refused", "blue", why="parity")
    env.record.append("desired", release=RELEASE)
    return env


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event(at=AT, kind="paused"), "2026-11-25T12:00:01Z  -      paused"),
        (Event(at=AT, kind="starting", slot="blue", facts={"release": RELEASE}), f"2026-11-25T12:00:01Z  blue   starting   release=calls@{'a' * 12}"),
        (Event(at=AT, kind="refused", slot="green", facts={"n": 3, "why": "a\n  b"}), "2026-11-25T12:00:01Z  green  refused    a b  n=3"),
        (Event(at=AT, kind="switched", slot="blue", facts={"before": {"blue": 1}, "from": None}), "2026-11-25T12:00:01Z  blue   switched   before={…}"),
    ],
)
def test_an_event_is_a_line_its_reason_first_its_releases_short_its_tables_only_named(event: Event, line: str) -> None:
    assert in_one_line(event) == line


@given(st.text(), st.text())
def test_whatever_a_reason_quotes_it_stays_one_line_and_drives_no_terminal(why: str, other: str) -> None:
    line = in_one_line(Event(at=AT, kind="refused", facts={"why": f"{why}\x1b[2J\r\n", "log": other}))
    assert line.isprintable() and len(line.splitlines()) == 1


def test_all_come_oldest_first_or_some_kinds_or_the_last_few_of_them(recorded: Environment) -> None:
    assert [event.kind for event in read_events(recorded)] == ["desired", "starting", "refused", "desired"]
    assert [event.kind for event in read_events(recorded, ["refused", "starting"])] == ["starting", "refused"]
    assert [event.kind for event in read_events(recorded, limit=2)] == ["refused", "desired"]
    assert list(read_events(recorded, ["desired"], 1)) == recorded.record.read()[-1:] and list(read_events(recorded, limit=0)) == []


def test_a_torn_last_line_is_ignored_and_so_is_one_torn_earlier(recorded: Environment) -> None:
    torn = recorded.record.path.read_bytes()[:40]
    recorded.record.path.write_bytes(recorded.record.path.read_bytes() + torn)
    assert len(list(read_events(recorded))) == 4
    recorded.record.append("paused")
    assert [event.kind for event in read_events(recorded)][3:] == ["desired", "paused"]


def test_an_unknown_kind_and_a_record_that_is_not_there_are_input_errors_that_say_what_is(env: Environment) -> None:
    with pytest.raises(InputError, match=r"'switch', expected one of acquired, .*switched"):
        list(read_events(env, ["switch"]))
    with pytest.raises(InputError, match=r"nothing is recorded yet: no state/events.jsonl(.|\n)*"):
        list(read_events(env))


def test_a_follower_sees_what_another_appends_in_order_and_only_the_kinds_asked_for(recorded: Environment) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(10):
            recorded.record.append("paused", number=number)
            recorded.record.append("resumed")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    found = list(read_events(recorded, ["paused"], 0, follow=True, ended=done.is_set))
    writer.join()
    numbers = [event.facts["number"] for event in found]
    # The limit cuts what was there at the first look: the writer may have begun by then.
    assert numbers == list(range(10))[10 - len(numbers) :] and len(recorded.record.read()) == 24


def test_a_record_that_is_still_to_come_is_waited_for(env: Environment) -> None:
    looks = iter([False, True])

    def ended() -> bool:
        env.record.append("paused")
        return next(looks)

    assert [event.kind for event in read_events(env, follow=True, ended=ended)] == ["paused", "paused"]


def test_as_json_a_line_is_the_line_of_the_record(recorded: Environment) -> None:
    lines = [json.loads(event.model_dump_json()) for event in read_events(recorded)]
    assert lines == [json.loads(line) for line in recorded.record.path.read_text().splitlines()]
