"""Two environments behind one router, over the real HAProxy and the fake vLLM: each is deployed, rolled back and
brought back by itself, under the streams of the other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.errors import InputError
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Router
from serve.deploy import deploy, rollback, stop_all
from serve.record.environment import Environment
from serve.record.receipt import last_receipt
from tests.serve.conftest import free_ports
from tests.support.agent_scene import Scene, folder
from tests.support.fake_servers import publish_fake
from tests.support.judging import judged_when_asked
from tests.support.kills import kill, wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class Pair:
    """x has the router; y is behind it, with an agent of its own."""

    def __init__(self) -> None:
        self.x = Scene()
        facts: dict[str, Any] = self.x.config.model_dump(mode="json", exclude_unset=True)
        facts |= {"name": "y", "model": "other", "router_of": "x", "slot_ports": free_ports(2), "state_dir": "state-y"}
        facts.pop("router")
        self.y = Scene()
        self.y.config = DeployConfig.model_validate(facts).behind(self.x.config)
        self.y.env = Environment(self.y.config)
        self.y.agent = self.y.new_agent()

    def ask(self, scene: Scene, tokens: int = 2) -> httpx.Response:
        config = scene.config
        body = {"model": config.model, "messages": [{"role": "user", "content": "question 0"}], "max_tokens": tokens}
        return httpx.post(
            f"{scene.env.router.base_url}/v1/chat/completions",
            json=body | {"stream": tokens > 2},
            headers={"Authorization": f"Bearer {api_key(config)}"},
            timeout=60,
            verify=False,
        )

    def serves(self, scene: Scene) -> str | None:
        return self.ask(scene).headers.get("x-tunegate-release")


@pytest.fixture
def pair(folder: Path) -> Iterator[Pair]:
    found = Pair()
    with judged_when_asked():
        yield found
        stop_all(found.y.env)
        stop_all(found.x.env)


def digest(reference: str) -> str:
    return reference.partition("@")[2]


def test_each_is_deployed_and_rolled_back_under_the_others_streams(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_FAKE_PACE", "0.05")
    one, two, three = (publish_fake(name) for name in ("one", "two", "three"))
    deploy(pair.x.env, one)
    whole: list[bool] = []

    def stream(scene: Scene, tokens: int) -> None:
        whole.append("data: [DONE]" in pair.ask(scene, tokens).text)

    def streaming(scene: Scene, tokens: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=stream, args=(scene, tokens)) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(one.open for one in scene.env.router.traffic().values()) >= 8)
        return threads

    threads = streaming(pair.x, 400)
    deploy(pair.y.env, two)
    assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(one), digest(two))
    deploy(pair.y.env, three)
    rollback(pair.y.env)
    assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(one), digest(two))
    receipt = last_receipt(pair.y.env)
    assert receipt["streams_cut"] == 0 and set(receipt["requests_by_release"]) <= {two, three}
    assert any(thread.is_alive() for thread in threads), "they were open all the while"
    threads += streaming(pair.y, 60)
    deploy(pair.x.env, three)
    for thread in threads:
        thread.join()
    assert whole == [True] * 16
    assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(three), digest(two))
    assert last_receipt(pair.x.env)["streams_cut"] == 0


def test_what_dies_is_brought_back_by_its_own_agent_and_the_router_by_either(pair: Pair) -> None:
    one, two = (publish_fake(name) for name in ("one", "two"))
    pair.x.want(one)
    pair.x.turn()
    pair.y.want(two)
    pair.y.turn()
    pid = pair.x.server("blue").pid
    kill(pair.y.server("blue"))
    pair.y.turn()
    assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(one), digest(two))
    assert pair.x.server("blue").pid == pid
    for scene in (pair.y, pair.x):
        os.kill(Router(scene.env.config).pid() or 0, signal.SIGKILL)
        wait_until(lambda: not pair.x.env.router.admin.is_running())
        scene.turn()
        assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(one), digest(two))


def test_the_one_with_the_router_is_stopped_last(pair: Pair) -> None:
    one, two = (publish_fake(name) for name in ("one", "two"))
    deploy(pair.x.env, one)
    deploy(pair.y.env, two)
    with pytest.raises(InputError, match="y: behind the router of x"):
        stop_all(pair.x.env)
    assert (pair.serves(pair.x), pair.serves(pair.y)) == (digest(one), digest(two))
    stop_all(pair.y.env)
    assert pair.serves(pair.x) == digest(one) and not pair.y.env.router.is_running()
    assert Router(pair.x.env.config).process.members() == {}
