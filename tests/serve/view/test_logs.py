"""Logs: the right file by its name, its last lines, and an agent that goes on where its log cannot."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import serve.view.logs
from configs.environment.config import DeployConfig
from configs.environment.slots import Slots
from configs.errors import InputError
from serve.record.environment import Environment
from serve.view.logs import LOGS, keeping, logs_of, read_logs

pytestmark = pytest.mark.unit


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.chdir(tmp_path)
    return Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))


def write(env: Environment, source: str, text: str) -> Path:
    path = env.folder / LOGS[source]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("source", LOGS)
def test_each_has_a_log_of_its_own(env: Environment, source: str) -> None:
    path = write(env, source, "words\n")
    assert logs_of(env, source) == {source: path} and list(read_logs({source: path}, 5)) == ["words"]


def test_a_slot_that_never_was_and_one_without_a_log_are_clear_errors(env: Environment) -> None:
    with pytest.raises(InputError, match="found the slot 'purple', expected one of blue, green, router, agent"):
        logs_of(env, "purple")
    with pytest.raises(
        InputError, match=r"green of x has no log yet: no state/green\.log; there is one of: none"
    ) as nothing:
        logs_of(env, "green")
    write(env, "router", "")
    with pytest.raises(InputError, match="there is one of: router") as one:
        logs_of(env, "green")
    assert (nothing.value.hint, one.value.hint) == ("tunegate status x", "tunegate logs x --slot router")


@pytest.mark.parametrize(("lines", "last"), [(0, []), (2, ["two", "thr"]), (9, ["one", "two", "thr"])])
def test_the_last_lines_come_the_unfinished_one_among_them(env: Environment, lines: int, last: list[str]) -> None:
    assert list(read_logs({"blue": write(env, "blue", "one\ntwo\nthr")}, lines)) == last[-lines or 3 :]


def test_a_followed_log_gives_an_unfinished_line_once_it_is_whole(env: Environment) -> None:
    path = write(env, "blue", "one\ntwo\nthr")
    looks = iter([False, True])

    def ended() -> bool:
        with path.open("a") as stream:
            stream.write("ee\n")
        return next(looks)

    assert list(read_logs({"blue": path}, 1, follow=True, ended=ended)) == ["two", "three", "ee"]


def start(env: Environment, *numbers: int) -> None:
    """Puts servers of blue on record, with logs that say who they are."""
    facts: dict[str, Any] = {"servers": 1 + max(numbers)} if max(numbers) else {}
    env.record.append("starting", "blue", release="r@sha256:" + "1" * 64, **facts)
    for number in numbers:
        log = env.log_path("blue", number)
        log.write_text(f"first of {number + 1}\nlast of {number + 1}\n")
        named = {"server": number} if number else {}
        env.record.append("started", "blue", pid=1, boot="b", ticks=1, port=1, log=str(log), **named)


def test_of_a_slot_every_server_is_shown_after_its_name_or_the_one_that_is_asked_for(env: Environment) -> None:
    start(env, 0, 1)
    assert list(read_logs(logs_of(env, "blue"), 1)) == ["blue  last of 1", "blue-2  last of 2"]
    assert list(read_logs(logs_of(env, "blue", 2), 5)) == ["first of 2", "last of 2"]
    assert list(read_logs(logs_of(env, "blue", 1), 1)) == ["last of 1"]
    with pytest.raises(InputError, match="found --server 3, and blue of x has 2: blue, blue-2"):
        logs_of(env, "blue", 3)


def test_one_that_was_not_started_yet_is_left_out_and_the_router_has_no_second_server(env: Environment) -> None:
    start(env, 1)
    assert list(logs_of(env, "blue")) == ["blue-2"]
    with pytest.raises(InputError, match="found --server 1, and blue of x has 1: blue-2"):
        logs_of(env, "blue", 1)
    with pytest.raises(InputError, match="found --server 2 with --slot router, expected it with blue or green"):
        logs_of(env, "router", 2)


def test_a_stopped_slot_still_shows_what_its_servers_said(env: Environment) -> None:
    two = env.config.model_copy(update={"slots": Slots(servers=2)})
    write(env, "blue", "one\n").with_name("blue-2.log").write_text("two\n")
    assert list(read_logs(logs_of(replace(env, config=two), "blue"), 5)) == ["blue  one", "blue-2  two"]


def test_what_comes_to_several_logs_is_followed_in_each(env: Environment) -> None:
    start(env, 0, 1)
    looks = iter([False, True])

    def ended() -> bool:
        for number in (0, 1):
            with env.log_path("blue", number).open("a") as stream:
                stream.write("more\n")
        return next(looks)

    found = list(read_logs(logs_of(env, "blue"), 0, follow=True, ended=ended))
    assert found == ["blue  more", "blue-2  more"] * 2


def test_what_the_agent_tells_is_kept_with_its_moment(env: Environment) -> None:
    told: list[str] = []
    tell = keeping(told.append, write(env, "agent", ""))
    tell("start")
    tell("error: no")
    lines = (env.folder / "agent.log").read_text().splitlines()
    assert (
        told == ["start", "error: no"]
        and all(re.fullmatch(r"20\d\d-\d\d-\d\dT\S+\+00:00 (start|error: no)", line) for line in lines)
        and len(lines) == 2
    )


def test_a_log_that_cannot_be_written_is_told_all_the_same(env: Environment) -> None:
    told: list[str] = []
    keeping(told.append, Path("no/such/folder/agent.log"))("start")
    assert told == ["start"]


def test_a_long_log_begins_anew_and_the_one_before_is_kept(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.view.logs, "AGENT_LOG_BYTES", 3)
    path = write(env, "agent", "long enough\n")
    keeping(lambda line: None, path)("start")
    assert path.read_text().endswith("start\n") and path.with_name("agent.log.1").read_text() == "long enough\n"
