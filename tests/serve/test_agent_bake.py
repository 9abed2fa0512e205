"""A bake without users over the real router and the fake vLLM: it ends with a person, who says `resume` or `abort`;
with users it passes by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.errors import InconclusiveError
from infra.haproxy.api_keys import api_key
from serve.deploy import deploy, stop_all
from serve.operate import abort, resume
from serve.record.receipt import last_receipt
from serve.view.status import status
from serve.watch.watcher import count_slot
from tests.support.agent_scene import Scene, digest, folder
from tests.support.fake_servers import misbehave, publish_fake
from tests.support.kills import wait_until
from tunegate import compare_by

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
# Times of a machine that is busy with other tests say nothing.
TIMELESS: dict[str, Any] = {"time_to_first_token_ratio": 1_000, "inter_token_ratio": 1_000}


@pytest.fixture
def baking(folder: Path) -> Iterator[Scene]:
    scene = Scene(bake_seconds=1, watch={"extend_seconds": 2, **TIMELESS})
    scene.env = replace(scene.env, compare=compare_by())
    scene.agent = scene.new_agent()
    yield scene
    stop_all(scene.env)


@contextmanager
def users(scene: Scene, count: int = 3) -> Iterator[None]:
    """Each asks, reads, asks again."""
    env, ended = scene.env, threading.Event()
    body = {"model": "m", "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 4, "stream": True}
    headers = {"Authorization": f"Bearer {api_key(env.config)}"}

    def use() -> None:
        with httpx.Client(base_url=env.router.base_url, headers=headers, timeout=20) as client:
            while not ended.wait(0.01):
                client.post("/v1/chat/completions", json=body)

    threads = [threading.Thread(target=use) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def asked(scene: Scene, slot: Any) -> float:
    return sum(row[0] for row in (count_slot(scene.env, slot).strata or {}).values())


def two_releases(scene: Scene) -> tuple[str, str]:
    """The first serves and was asked some fifty times; the second is wanted."""
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    with users(scene):
        wait_until(lambda: asked(scene, "blue") >= 50)
    scene.want(two)
    return one, two


def test_without_users_the_agent_extends_then_waits_for_a_person_whose_resume_ends_it(baking: Scene) -> None:
    _, two = two_releases(baking)
    baking.turn()
    assert baking.serving() == digest(two) and baking.kinds()[-2:] == ["inconclusive", "inconclusive"]
    assert status(baking.env)["next"] == "bake" and "0 requests" in status(baking.env)["inconclusive"]
    baking.turn(2)
    assert baking.kinds()[-2:] == ["inconclusive", "inconclusive"], "said once"
    assert last_receipt(baking.env)["outcome"] == "inconclusive"
    found = resume(baking.env)
    receipt = found["receipt"]
    assert receipt and receipt["accepted_by"] == "a person" and baking.kinds()[-1] == "baked"
    assert found["release"] == two and baking.env.record.state().last_good is not None


def test_a_deploy_by_hand_ends_as_inconclusive_and_an_abort_goes_back(baking: Scene) -> None:
    one, two = two_releases(baking)
    with pytest.raises(InconclusiveError, match="it is watched on: traffic is inconclusive: 0 requests") as ended:
        deploy(baking.env, two)
    assert ended.value.exit_code == 4 and "tunegate resume x" in str(ended.value.hint)
    assert baking.serving() == digest(two)
    assert abort(baking.env)["release"] == one and baking.serving() == digest(one)
    assert baking.env.record.state().inconclusive is None


def test_while_a_person_is_waited_for_it_is_watched_on(baking: Scene, folder: Path) -> None:
    one, two = two_releases(baking)
    with baking.at_work():
        wait_until(lambda: baking.agent.turn() or baking.env.record.state().awaits_person is not None)
        misbehave(folder, two="error")
        with users(baking):
            wait_until(lambda: baking.agent.turn() or baking.env.record.state().wanted.failed == two)
        baking.agent.turn_to_end()
    assert baking.serving() == digest(one)


def test_with_users_it_passes_by_what_they_saw(baking: Scene) -> None:
    _, two = two_releases(baking)
    baking.want(two, bake_seconds=2)
    with users(baking):
        baking.turn()
    receipt = baking.env.record.state().receipt
    assert receipt and receipt["outcome"] == "pass", receipt
    assert "not shown to be worse: error rate" in receipt["decided_by"] and baking.serving() == digest(two)
