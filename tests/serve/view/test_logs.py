"""Logs: the right file by its name, its last lines, and an agent that goes on where its log cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import serve.view.logs
from configs.environment.config import DeployConfig
from configs.errors import InputError
from serve.record.environment import Environment
from serve.view.logs import LOGS, keeping, log_of, read_log

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
    assert log_of(env, source) == path and list(read_log(path, 5)) == ["words"]


def test_a_slot_that_never_was_and_one_without_a_log_are_clear_errors(env: Environment) -> None:
    with pytest.raises(InputError, match="found the slot 'purple', expected one of blue, green, door, agent"):
        log_of(env, "purple")
    with pytest.raises(InputError, match=r"green of x has no log yet: no state/green\.log; there is one of: none") as nothing:
        log_of(env, "green")
    write(env, "door", "")
    with pytest.raises(InputError, match="there is one of: door") as one:
        log_of(env, "green")
    assert (nothing.value.hint, one.value.hint) == ("tunegate status x", "tunegate logs x --slot door")


@pytest.mark.parametrize(("lines", "last"), [(0, []), (2, ["two", "thr"]), (9, ["one", "two", "thr"])])
def test_the_last_lines_come_the_unfinished_one_among_them(env: Environment, lines: int, last: list[str]) -> None:
    assert list(read_log(write(env, "blue", "one\ntwo\nthr"), lines)) == last[-lines or 3 :]


def test_a_followed_log_gives_an_unfinished_line_once_it_is_whole(env: Environment) -> None:
    path = write(env, "blue", "one\ntwo\nthr")
    looks = iter([False, True])

    def ended() -> bool:
        with path.open("a") as stream:
            stream.write("ee\n")
        return next(looks)

    assert list(read_log(path, 1, follow=True, ended=ended)) == ["two", "three", "ee"]


def test_what_the_agent_tells_is_kept_with_its_moment(env: Environment) -> None:
    told: list[str] = []
    tell = keeping(told.append, write(env, "agent", ""))
    tell("start")
    tell("error: no")
    lines = (env.folder / "agent.log").read_text().splitlines()
    assert told == ["start", "error: no"] and all(re.fullmatch(r"20\d\d-\d\d-\d\dT\S+\+00:00 (start|error: no)", line) for line in lines) and len(lines) == 2


def test_a_log_that_cannot_be_written_is_told_all_the_same(env: Environment) -> None:
    told: list[str] = []
    keeping(told.append, Path("no/such/folder/agent.log"))("start")
    assert told == ["start"]


def test_a_long_log_begins_anew_and_the_one_before_is_kept(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.view.logs, "AGENT_LOG_BYTES", 3)
    path = write(env, "agent", "long enough\n")
    keeping(lambda line: None, path)("start")
    assert path.read_text().endswith("start\n") and path.with_name("agent.log.1").read_text() == "long enough\n"
