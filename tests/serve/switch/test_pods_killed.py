"""The agent of pods is killed at every line of its record and before each thing that it does to the cluster and to the
routers: what answers is always one proven release, and the next agent converges.

Every fifth point is run here, all of them with TUNEGATE_KILLS=all (the benchmark does). The router pods and the model
servers are processes, the API server is a fake, the kills are real.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Value
from pathlib import Path
from typing import Any

import httpx
import pytest

import infra.kubernetes.lease
import serve.switch.pods
import serve.switch.traffic
from infra.kubernetes.api import Cluster
from infra.router_pods.routers import Routers
from serve.record.record import Record
from tests.support.agent_scene import digest
from tests.support.cluster_scene import ClusterScene, cluster_scene
from tests.support.fake_servers import publish_fake
from tests.support.kills import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
EFFECTS: tuple[tuple[Any, str], ...] = (
    (Cluster, "apply"),
    (Cluster, "delete"),
    *((Routers, name) for name in ("switch", "set_weights", "set_release", "set_standbys", "tell", "publish")),
    (serve.switch.traffic, "wait_for_slot"),
    (serve.switch.pods, "end_slot_pods"),
)
STEP = 1 if os.environ.get("TUNEGATE_KILLS") == "all" else 5
MOMENTS = {"before starting", "before started", "before switching", "before switch", "before switched", "before delete"}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterScene]:
    monkeypatch.setattr(infra.kubernetes.lease, "DURATION_SECONDS", 2)
    monkeypatch.setattr(infra.kubernetes.lease, "RENEW_SECONDS", 0.4)
    with cluster_scene(tmp_path, keep_old_slot=False) as found:
        yield found


def agent_that_dies(scene: ClusterScene, wanted: int) -> str | None:
    """An agent in a process of its own, which is killed at the point of this number; where that was, or None if it has
    come to its end before."""
    Path("point").unlink(missing_ok=True)
    agent = os.fork()
    if agent == 0:
        try:
            count_points(wanted)
            scene.turn()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(agent, 0)[1])
    assert status in (0, -signal.SIGKILL), "an agent that ends by itself has failed"
    return Path("point").read_text() if Path("point").exists() else None


def count_points(wanted: int) -> None:
    agent, seen = os.getpid(), Value("i", 0)  # its tasks, which are processes of their own, count on

    def point(name: str) -> None:
        with seen.get_lock():
            seen.value += 1
            if seen.value != wanted:
                return
        Path("point").write_text(name)
        os.kill(agent, signal.SIGKILL)
        time.sleep(60)

    def around(name: Callable[[tuple[Any, ...]], str], effect: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **facts: Any) -> Any:
            point(f"before {name(arguments)}")
            return effect(*arguments, **facts)

        return wrapped

    setattr(Record, "append", around(lambda words: words[1], Record.append))  # noqa: B010
    for owner, name in EFFECTS:
        setattr(owner, name, around(lambda words, name=name: name, getattr(owner, name)))  # type: ignore[misc]


def answers(scene: ClusterScene) -> set[str]:
    """Of every router, and who answers nothing is named by its status."""
    found = set()
    for pod in scene.cluster.pods["x-router"]:
        reply = httpx.get(f"http://{pod.address}:8080/health", timeout=10)
        found.add(reply.headers.get("x-tunegate-release", str(reply.status_code)))
    return found


def test_whatever_it_was_doing_one_proven_release_answers_and_the_next_agent_converges(scene: ClusterScene) -> None:
    releases = [publish_fake("one"), publish_fake("two")]
    scene.want(releases[0])
    scene.turn()
    proven, number = {digest(releases[0])}, 1
    seen: list[str] = []
    while True:
        target = releases[len(seen) % 2 == 0]
        scene.want(target)
        at = agent_that_dies(scene, number)
        found = answers(scene)
        assert found <= proven | {digest(target)}, (number, at)
        if digest(target) in found:
            assert {"proven", "switching"} <= set(scene.kinds()), (number, at)
        assert len(found) == 1 or at in ("before tell", "before switched", "before publish"), (number, at, found)
        if at is None:
            break
        seen.append(at)
        wait_until(lambda: scene.turn() or answers(scene) == {digest(target)}, 30)  # noqa: B023
        assert answers(scene) == {digest(target)}, (number, at, scene.said[-8:])
        proven = {digest(target)}
        number += STEP
    print(f"kills of the agent of pods: {len(seen)} points: {seen}")
    assert len(seen) >= 8 and (STEP > 1 or set(seen) >= MOMENTS), seen
