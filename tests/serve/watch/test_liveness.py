"""Who answers users is alive without being asked; who does not is asked, and hung after so many questions in a row
without an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

import serve.watch.liveness
from configs.environment.config import DeployConfig
from configs.slots import Server, SlotName
from infra.boot import ProcessId
from infra.vllm.server import SlotProcess
from serve.record.environment import Environment
from serve.record.state import State
from serve.watch.liveness import Liveness

pytestmark = pytest.mark.unit


BLUE: Server = ("blue", 0)
GREEN: Server = ("green", 0)


class Servers:
    """What vLLM would say: how far it has got, and whether it answers the probe; `asked` counts the probes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, alive: Collection[Server] = (BLUE, GREEN)) -> None:
        self.progress: int | None = 0
        self.answering, self.asked = True, 0
        settings = {"name": "x", "model": "m", "gate": None, "supervision": {"probe_failures": 2}}
        self.env, self.liveness = Environment(DeployConfig.model_validate(settings)), Liveness()
        processes = {server: SlotProcess(ProcessId(1, "", 0), 1, Path("log")) for server in {BLUE, GREEN, *alive}}
        monkeypatch.setattr(Environment, "servers", lambda env, state: processes)
        monkeypatch.setattr(Environment, "died", lambda env, state: frozenset(processes.keys() - set(alive)))
        monkeypatch.setattr(Environment, "server", lambda env, state, *server: processes[server])
        monkeypatch.setattr(Environment, "is_shared", lambda env, state, slot: False)
        monkeypatch.setattr(serve.watch.liveness, "read_progress", lambda base_url: self.progress)
        monkeypatch.setattr(serve.watch.liveness, "answers", lambda env, state, slot, number: self.probe())

    def probe(self) -> bool:
        self.asked += 1
        return self.answering

    def look(self, *serving: SlotName) -> frozenset[Server]:
        return self.liveness.hung(self.env, State(), serving)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Servers]:
    return lambda **facts: Servers(monkeypatch, **facts)


def test_a_server_that_answers_its_users_is_not_asked(servers: Callable[..., Servers]) -> None:
    world = servers()
    for world.progress in range(5):
        assert world.look("blue") == frozenset()
    assert world.asked == 1  # at the first look nothing was known of before


def test_one_that_answers_nobody_is_asked_and_hung_after_two_questions(servers: Callable[..., Servers]) -> None:
    world = servers()
    world.look("blue")
    world.answering = False
    assert world.look("blue") == frozenset()  # once is no verdict
    assert world.look("blue") == {BLUE}


@pytest.mark.parametrize("sign", ["an answer to a user", "an answer to the probe"])
def test_any_sign_of_life_begins_the_count_anew(servers: Callable[..., Servers], sign: str) -> None:
    world = servers()
    world.answering = False
    world.look("blue")
    world.progress, world.answering = (1, False) if sign == "an answer to a user" else (0, True)
    world.look("blue")
    world.answering = False
    assert world.look("blue") == frozenset()
    assert world.look("blue") == {BLUE}


def test_a_server_whose_counters_cannot_be_read_is_asked_every_time(servers: Callable[..., Servers]) -> None:
    world = servers()
    world.progress = None
    for _ in range(3):
        assert world.look("blue", "green") == frozenset()
    assert world.asked == 6


def test_neither_the_dead_nor_one_without_traffic_is_asked(servers: Callable[..., Servers]) -> None:
    world = servers(alive=[GREEN])
    world.answering = False
    for _ in range(3):
        assert world.look("blue") == frozenset()
    assert world.asked == 0
