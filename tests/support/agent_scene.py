"""The agent in this process over the real router and the fake vLLM, one turn at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.slots import SlotName
from infra.haproxy.api_keys import api_key
from infra.vllm.server import SlotProcess
from serve.agent import Agent, end_on_sigterm
from serve.deploy import stop_all
from serve.record.environment import Environment, holder_of, locked
from tests.support.fake_servers import fake_environment, fake_world
from tests.support.kills import wait_until

QUICK: dict[str, Any] = {
    "interval_seconds": 0.2,
    "probe_timeout_seconds": 2.0,  # a fake server that two busy cores have kept waiting is no hung one
    "probe_failures": 2,
    "backoff_seconds": 0,
}


class Scene:
    """One environment whose YAML is `config`; `turn` is one turn of an agent that starts, looks and ends."""

    def __init__(self, **facts: Any) -> None:
        self.env = fake_environment(**{"supervision": QUICK} | facts)
        self.config: DeployConfig = self.env.config
        self.said: list[str] = []
        self.agent = self.new_agent()

    def new_agent(self) -> Agent:
        return Agent(replace(self.env, report_progress=self.said.append), self.read)

    def read(self) -> DeployConfig:
        return self.config

    def want(self, release: str | None, **facts: Any) -> None:
        self.config = self.config.model_copy(update={"release": release, **facts})

    def turn(self, times: int = 1) -> None:
        """Each to its end: what it began is waited for."""
        with self.at_work():
            for _ in range(times):
                self.agent.turn_to_end()

    @contextmanager
    def at_work(self) -> Iterator[Environment]:
        """The agent holds the environment."""
        with locked(self.env, "agent") as held:
            mine = replace(held, report_progress=self.said.append)
            with self.agent.working(mine):
                yield mine
            self.agent.loop.prober.wait()  # the next turn forks, and a thread that imports would keep its lock there

    def serving(self) -> str:
        reply = httpx.get(
            f"{self.env.router.base_url}/v1/models",
            headers={"Authorization": f"Bearer {api_key(self.env.config)}"},
            timeout=5,
        )
        return reply.headers.get("x-tunegate-release", str(reply.status_code))

    def server(self, slot: SlotName) -> SlotProcess:
        found = self.env.process(self.env.record.state(), slot)
        assert found
        return found

    def kinds(self) -> list[str]:
        return [event.kind for event in self.env.record.read() if event.kind not in ("acquired", "keyed")]


def in_child(scene: Scene) -> int:
    """The agent in a process of its own, as `tunegate agent` runs it."""
    child = os.fork()
    if child == 0:
        try:
            end_on_sigterm()
            scene.new_agent().run(0.2, once=False)
        finally:
            os._exit(0)
    wait_until(lambda: (found := holder_of(scene.env)) is not None and found["pid"] == child)
    return child


def digest(reference: str) -> str:
    return reference.partition("@")[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with chdir(tmp_path), patch.dict(os.environ, fake_world(tmp_path)):
        yield tmp_path


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    found = Scene()
    yield found
    stop_all(found.env)
