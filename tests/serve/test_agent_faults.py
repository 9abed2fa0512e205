"""The agent brings back what dies or hangs, gives up what keeps dying, and outlives a full disk: over the real router
and the fake vLLM."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from infra.haproxy.router import Router
from serve.deploy import stop_all
from serve.operate import resume
from serve.record.environment import locked
from tests.support.agent_scene import Scene, digest, folder, scene
from tests.support.fake_servers import misbehave, publish_fake
from tests.support.kills import kill, wait_until

__all__ = ["folder", "scene"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_a_killed_server_comes_back_by_itself_and_its_heir_serves_meanwhile(scene: Scene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    kill(scene.server("blue"))
    scene.turn()
    assert scene.serving() == digest(one) and scene.kinds()[-4:] == ["crashed", "starting", "started", "proven"]
    scene.want(two)
    scene.turn()
    kill(scene.server("green"))
    scene.turn()
    assert scene.serving() == digest(two) and scene.kinds().count("crashed") == 2


def test_a_server_that_accepts_and_never_answers_is_ended_and_started_again(scene: Scene, folder: Path) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    first = scene.server("blue")
    misbehave(folder, one="hang")
    scene.turn()
    assert scene.server("blue") == first  # one unanswered probe is not yet a verdict
    with scene.at_work():
        wait_until(lambda: scene.agent.turn() or "crashed" in scene.kinds())
        misbehave(folder)
        scene.agent.turn_to_end()
    assert scene.server("blue") != first and scene.serving() == digest(one)
    assert [event.facts["why"] for event in scene.env.record.read() if event.kind == "crashed"] == [
        "it accepts requests and does not answer"
    ]


def test_a_warm_server_that_hangs_is_ended_before_a_rollback_trusts_it(scene: Scene, folder: Path) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    misbehave(folder, one="hang")
    with scene.at_work():
        wait_until(lambda: scene.agent.turn() or "crashed" in scene.kinds())
        scene.agent.turn_to_end()
    state = scene.env.record.state()
    assert state.slots["blue"] is None and scene.serving() == digest(two)
    assert [event.slot for event in scene.env.record.read() if event.kind == "crashed"] == ["blue"]


def test_a_release_that_stops_answering_in_its_bake_is_rolled_back_though_not_one_request_failed_yet(
    scene: Scene, folder: Path
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()

    def hang_once_it_serves() -> None:
        while scene.kinds().count("switched") < 2:
            time.sleep(0.05)
        misbehave(folder, two="hang")

    thread = threading.Thread(target=hang_once_it_serves)
    thread.start()
    scene.want(two, bake_seconds=120)
    scene.turn()
    thread.join()
    assert scene.serving() == digest(one) and scene.env.record.state().wanted.failed == two
    (why,) = [
        event.facts["why"] for event in scene.env.record.read() if event.kind == "desired" and "why" in event.facts
    ]
    assert why.endswith("under traffic it accepts requests and does not answer")


def test_a_server_that_answers_with_errors_is_alive(scene: Scene, folder: Path) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    misbehave(folder, one="error")
    scene.turn(3)
    assert "crashed" not in scene.kinds()


def test_the_third_crash_goes_back_to_the_last_good_release_and_stays_there(scene: Scene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    for _ in range(3):
        kill(scene.server("green"))
        scene.turn()
    assert scene.serving() == digest(one) and scene.env.record.state().wanted.failed == two
    scene.turn(2)
    assert scene.serving() == digest(one)


def test_with_nothing_to_go_back_to_it_stops_trying_says_so_once_and_a_person_resumes_it(scene: Scene) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    for _ in range(3):
        kill(scene.server("blue"))
        scene.turn()
    assert scene.serving() == "503" and scene.kinds().count("paged") == 1
    scene.turn(2)
    assert scene.kinds().count("paged") == 1 and any("a person is needed" in line for line in scene.said)
    assert resume(scene.env)["release"] == one and scene.serving() == digest(one)


def test_a_killed_router_comes_back_with_its_shares(folder: Path) -> None:
    scene = Scene(strategy={"kind": "canary", "steps": [40, 100], "bake_seconds": 0}, promotion="manual")
    try:
        one, two = publish_fake("one"), publish_fake("two")
        scene.want(one)
        scene.turn()
        with locked(scene.env) as held:
            held.record.append("promoted", release=one)
        scene.turn()
        scene.want(two)
        scene.turn()
        assert scene.env.router.weights() == {"blue": 60, "green": 40}
        os.kill(Router(scene.env.config).pid() or 0, signal.SIGKILL)
        wait_until(lambda: not scene.env.router.is_running())
        scene.turn()
        assert scene.env.router.weights() == {"blue": 60, "green": 40} and scene.env.record.state().moves.weight == 40
    finally:
        stop_all(scene.env)


def test_a_full_disk_stops_no_one_and_is_over_when_there_is_room_again(scene: Scene) -> None:
    """The record may not grow by one byte (RLIMIT_FSIZE): what a full disk does to an append."""
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    scene.want(two)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with scene.at_work():
        workers = (0, scene.agent.loop.tasks.runner, scene.agent.checks.runner)
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (scene.env.record.path.stat().st_size, before[1]))
        try:
            scene.agent.turn_to_end()
            scene.agent.turn_to_end()
        finally:
            for pid in workers:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert (
            scene.serving() == digest(one)
            and len([line for line in scene.said if "the record cannot be written" in line]) == 1
        )
        scene.agent.turn_to_end()
    assert scene.serving() == digest(two)
