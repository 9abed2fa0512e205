"""An agent reads what keys used, and the router refuses whose budget is spent, over the real router and the fake
vLLM."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring
from serve.deploy import stop_all
from tests.support.agent_scene import Scene, folder
from tests.support.fake_servers import publish_fake
from tests.support.kills import wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    found = Scene()
    yield found
    stop_all(found.env)


def test_a_key_is_refused_from_the_moment_on_that_its_budget_is_spent(scene: Scene) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    secret = Keyring(scene.config).add("team", KeyLimits.model_validate({"tokens_per_day": 10}))

    def status() -> int:
        url, headers = f"{scene.env.router.base_url}/v1/chat/completions", {"Authorization": f"Bearer {secret}"}
        return httpx.post(url, headers=headers, json={"model": "m", "messages": []}, timeout=10).status_code

    usage = scene.env.folder / "usage"
    usage.mkdir(exist_ok=True)

    def use(tokens: int) -> None:
        row = {"at": time.time(), "key": "team", "prompt_tokens": tokens, "completion_tokens": 0}
        with (usage / f"{time.strftime('%Y-%m-%d', time.gmtime())}-blue.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def turns_until(code: int) -> None:
        with scene.at_work():
            wait_until(lambda: scene.agent.turn() or status() == code, 20)

    use(9)
    turns_until(200)
    use(1)
    turns_until(429)
    Keyring(scene.config).revoke("team")
    turns_until(401)
