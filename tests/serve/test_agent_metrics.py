"""What an agent says of itself to Prometheus, over the real router and the fake vLLM: while it works, and not a moment
longer."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from configs.release import short
from serve.deploy import deploy, stop_all
from serve.operate import pause
from tests.serve.conftest import free_ports
from tests.support.agent_scene import QUICK, Scene, digest, folder, in_child
from tests.support.fake_servers import publish_fake
from tests.support.judging import judged_when_asked
from tests.support.kills import kill, wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class Watched:
    """An environment with a port for Prometheus, as it is asked there."""

    def __init__(self) -> None:
        self.port, port, metrics_port = free_ports(3)
        router = {"port": port, "metrics_port": metrics_port}
        self.scene = Scene(router=router, supervision=QUICK | {"metrics_port": self.port})

    def text(self) -> str | None:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        except httpx.HTTPError:
            return None

    def says(self, line: str) -> bool:
        return line in (self.text() or "").splitlines()


@pytest.fixture
def watched(folder: Path) -> Iterator[Watched]:
    found = Watched()
    yield found
    stop_all(found.scene.env)


def ends(child: int, how: signal.Signals) -> None:
    os.kill(child, how)
    os.waitpid(child, 0)


def test_it_says_what_serves_and_what_waits_and_is_gone_when_it_is_dead(watched: Watched) -> None:
    scene, one = watched.scene, publish_fake("one")
    scene.want(one)
    child = in_child(scene)
    named = f'digest="{digest(one)}",release="{short(one)}",slot="blue"'
    wait_until(lambda: watched.says(f'tunegate_slot_info{{active="yes",{named}}} 1.0'), 30)
    wait_until(lambda: 'step="done"' in str(watched.text()) and "tunegate_turn_errors" in str(watched.text()))
    assert watched.says('tunegate_holder_info{holder="agent"} 1.0') and watched.says("tunegate_drift 0.0")
    assert watched.says("tunegate_turn_errors 0.0") and watched.says('tunegate_slot_servers_alive{slot="blue"} 1.0')
    pause(scene.env)
    wait_until(lambda: watched.says("tunegate_paused 1.0"))
    assert watched.says("tunegate_paused 1.0") and watched.says("tunegate_paged 0.0")
    ends(child, signal.SIGKILL)
    wait_until(lambda: watched.text() is None)
    assert watched.text() is None and scene.serving() == digest(one), "its figures die with it, what serves does not"


def test_every_target_that_it_names_answers(watched: Watched) -> None:
    scene, one = watched.scene, publish_fake("one")
    scene.want(one)
    scene.turn()
    with scene.at_work():
        scene.agent.turn()
        found = json.loads(httpx.get(f"http://127.0.0.1:{watched.port}/targets").text)
    living = [each for each in found if each["labels"].get("slot") != "green"]
    assert [each["labels"]["job"] for each in living] == ["router", "slot"]
    for each in living:
        assert httpx.get(f"http://{each['targets'][0]}/metrics", timeout=5).status_code == 200


def test_a_deploy_by_hand_says_its_steps_too(watched: Watched) -> None:
    scene, one = watched.scene, publish_fake("one")
    seen = set[str]()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(line for line in (watched.text() or "").splitlines() if line.startswith("tunegate_step"))
            time.sleep(0.02)

    watcher = threading.Thread(target=look)
    with judged_when_asked():
        watcher.start()
        try:
            deploy(scene.env, one)
        finally:
            done.set()
            watcher.join()
    assert any('proof="healthy",slot="blue",step="prove"' in line for line in seen), seen
    assert watched.text() is None


def test_a_crash_that_calls_for_a_person_is_seen(watched: Watched) -> None:
    scene, one = watched.scene, publish_fake("one")
    scene.want(one, supervision=scene.config.supervision.model_copy(update={"max_crashes": 1}))
    scene.turn()
    with scene.at_work():
        kill(scene.server("blue"))
        scene.agent.turn()
        wait_until(lambda: (scene.agent.turn(), watched.says("tunegate_paged 1.0"))[1])
        assert watched.says("tunegate_paged 1.0")
        assert 'step="paged"' in str(watched.text())


def test_a_port_that_another_has_keeps_nothing_from_being_deployed(watched: Watched) -> None:
    scene, one = watched.scene, publish_fake("one")
    with socket.create_server(("127.0.0.1", watched.port)):
        scene.want(one)
        scene.turn()
    assert scene.serving() == digest(one)
    assert len([line for line in scene.said if "metrics_port" in line]) == 1
