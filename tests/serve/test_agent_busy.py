"""The agent looks on whatever it does: what serves dies while a candidate hangs in its proof, people change their minds
in the middle of one, and the agent is killed with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from serve.deploy import deploy, rollback, stop_all
from serve.operate import abort
from tests.support.agent_scene import Scene, digest, folder, in_child
from tests.support.fake_servers import misbehave, publish_fake
from tests.support.kills import kill, wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextmanager
def agent(scene: Scene) -> Iterator[int]:
    """In a process of its own, until SIGTERM, or whatever came before."""
    child = in_child(scene)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


@pytest.fixture
def hanging(folder: Path) -> Iterator[tuple[Scene, str, str]]:
    """`one` serves; `two` is started, healthy, and will never answer a question."""
    scene = Scene(start_timeout_seconds=300, keep_old_slot=False)
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    misbehave(folder, two="hang")
    scene.want(two)
    yield scene, one, two
    stop_all(scene.env)


def is_hanging(scene: Scene) -> bool:
    state = scene.env.record.state()
    green = state.slots["green"]
    return green is not None and green.proofs == {"healthy"}


def test_what_serves_is_brought_back_while_a_candidate_hangs_in_its_proof(hanging: tuple[Scene, str, str]) -> None:
    scene, one, two = hanging
    with agent(scene):
        wait_until(lambda: is_hanging(scene))
        time.sleep(0.5)
        kill(scene.server("blue"))
        began = time.monotonic()
        wait_until(lambda: scene.serving() == digest(one), 15)
        assert time.monotonic() - began < 8
        wait_until(lambda: is_hanging(scene))
        assert scene.env.record.state().wanted.desired == two and scene.env.record.state().refused is None


def test_a_change_of_mind_ends_a_hanging_proof_at_once(hanging: tuple[Scene, str, str]) -> None:
    scene, one, _ = hanging
    with agent(scene):
        wait_until(lambda: is_hanging(scene))
        began = time.monotonic()
        assert abort(scene.env)["release"] == one
        wait_until(lambda: scene.env.record.state().slots["green"] is None)
        assert time.monotonic() - began < 5 and scene.serving() == digest(one)


def test_a_proof_that_outlives_its_deadline_is_ended_and_refuses_its_release(hanging: tuple[Scene, str, str]) -> None:
    scene, one, two = hanging
    settings = scene.config.supervision.model_copy(update={"task_deadline_seconds": 1.0})
    scene.want(two, supervision=settings)
    scene.turn()
    assert scene.serving() == digest(one)
    assert str(scene.env.record.state().refused).startswith("prove green warm did not end within 1 s")
    assert [line for line in scene.said if "error" in line] == ["error: prove green warm did not end within 1 s"]


def test_a_proof_that_somebody_kills_begins_again_and_at_the_third_time_refuses(folder: Path) -> None:
    scene = Scene()
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    misbehave(folder, two="hang")
    scene.want(two)
    try:
        with scene.at_work():
            for _ in range(3):
                wait_until(lambda: bool(task_of(scene, "warm")))
                (task,) = task_of(scene, "warm")
                os.kill(task, signal.SIGKILL)
                wait_until(partial(is_gone, scene, task))
            scene.agent.turn_to_end()
            assert "ended by itself, with status -9" in str(scene.env.record.state().refused)
        assert len([line for line in scene.said if "it begins again" in line]) == 2
        assert scene.serving() == digest(one) and scene.env.record.state().slots["green"] is None
    finally:
        stop_all(scene.env)


def task_of(scene: Scene, proof: str) -> list[int]:
    """The process of that proof after the agent's next turn; none where something else is under way."""
    scene.agent.turn()
    tasks = scene.agent.loop.tasks
    return children(tasks.runner) if tasks.action and tasks.action.proof == proof else []


def is_gone(scene: Scene, task: int) -> bool:
    return task not in task_of(scene, "warm")


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_killed_in_a_hanging_proof_the_agent_leaves_nobody_who_works_on(hanging: tuple[Scene, str, str]) -> None:
    scene, one, two = hanging
    with agent(scene) as child:
        wait_until(lambda: is_hanging(scene))
        runners = children(child)
        assert len(runners) == 2
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in runners), 5)
        assert scene.serving() == digest(one)
    misbehave(Path.cwd())
    with agent(scene):
        wait_until(lambda: scene.serving() == digest(two), 30)


def test_the_warm_release_answers_though_the_agent_is_dead(folder: Path) -> None:
    scene = Scene()
    one, two = publish_fake("one"), publish_fake("two")
    try:
        for release in (one, two):
            scene.want(release)
            scene.turn()
        assert scene.env.router.standbys() == {"blue", "green"}
        kill(scene.server("green"))
        wait_until(lambda: scene.serving() == digest(one), 1)  # what reached it as it died is lost
        assert [scene.serving() for _ in range(5)] == [digest(one)] * 5
        with agent(scene):
            wait_until(lambda: scene.env.record.state().active == "blue")
            wait_until(lambda: scene.serving() == digest(two), 30)
        assert rollback(scene.env)["release"] == one
        deploy(scene.env, two)
    finally:
        stop_all(scene.env)
