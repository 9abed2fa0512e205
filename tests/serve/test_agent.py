"""The agent over the real router and the fake vLLM: it follows the YAML and what an operator says, and dies without a
trace."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError
from infra.haproxy.api_keys import api_key
from serve.agent import Agent
from serve.deploy import promote, rollback, stop_all
from serve.operate import abort, hold, pause
from serve.record.environment import locked
from tests.support.agent_scene import Scene, digest, folder, in_child, scene
from tests.support.fake_servers import misbehave, publish_fake
from tests.support.kills import kill, wait_until

__all__ = ["folder", "scene"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_it_deploys_what_the_yaml_pins_and_then_leaves_everything_alone(scene: Scene) -> None:
    scene.turn()
    assert scene.kinds() == []
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
        assert scene.serving() == digest(release)
    before = scene.kinds()
    scene.turn(3)
    assert scene.kinds() == before


def test_settings_of_the_router_that_changed_reach_it_once_and_nothing_else_moves(scene: Scene) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    before, first = scene.kinds(), scene.server("blue")
    scene.want(one, router=scene.config.router.model_copy(update={"paths": ["/v1/chat/completions"]}))
    scene.turn(3)
    reply = httpx.get(
        f"{scene.env.router.base_url}/v1/models",
        headers={"Authorization": f"Bearer {api_key(scene.env.config)}"},
        timeout=5,
    )
    assert reply.status_code == 404 and len([line for line in scene.said if "read anew" in line]) == 1
    assert scene.kinds() == before and scene.server("blue") == first


@pytest.mark.parametrize("fault", ["bytes", "unknown", "proof", "port"])
def test_what_may_not_serve_is_said_once_and_what_serves_serves_on(scene: Scene, folder: Path, fault: str) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    if fault == "bytes":
        next(Path("releases").glob("two@*/release/model.safetensors")).write_text("twO")
    if fault == "proof":
        misbehave(folder, two="wrong")
    if fault == "port":
        import socket

        holder = socket.create_server(("127.0.0.1", scene.env.config.slot_ports[1]))
    scene.want("three@sha256:" + "3" * 64 if fault == "unknown" else two)
    scene.turn(3)
    if fault == "port":
        holder.close()
    said = [line for line in scene.said if "error" in line]
    assert scene.serving() == digest(one) and len(said) == 1, said
    assert scene.kinds().count("refused") + scene.kinds().count("failed") == 1
    misbehave(folder)
    scene.want(one)
    scene.turn()
    assert scene.serving() == digest(one)


def test_a_wrong_yaml_keeps_no_server_from_being_brought_back(scene: Scene) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    kill(scene.server("blue"))

    def wrong() -> DeployConfig:
        raise InputError("local.yaml: 1 problem")

    scene.agent.read = wrong
    scene.turn(2)
    assert scene.serving() == digest(one) and scene.said.count("error: local.yaml: 1 problem") == 1


def test_an_agent_that_was_taken_over_from_acts_no_more(scene: Scene) -> None:
    scene.want(publish_fake("one"))
    with locked(scene.env) as first:
        stale = first
    with locked(scene.env):
        pass
    agent = Agent(stale, scene.read)
    with pytest.raises(ExternalError, match="has taken over from holder 1"):
        agent.turn()
    assert "starting" not in scene.kinds()


def ended(child: int) -> None:
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)


def test_it_carries_out_what_an_operator_says_and_sigterm_ends_it_alone(folder: Path) -> None:
    scene = Scene(promotion="manual")
    one, two = publish_fake("one"), publish_fake("two")
    try:
        scene.want(one)
        child = in_child(scene)
        wait_until(lambda: "proven" in scene.kinds() and scene.env.record.state().slots["blue"] is not None)
        assert promote(scene.env)["release"] == one
        ended(child)
        scene.want(two)
        child = in_child(scene)
        wait_until(lambda: scene.kinds().count("proven") >= 10)
        assert promote(scene.env)["release"] == two
        began = time.monotonic()
        found = rollback(scene.env)
        assert found["release"] == one and scene.serving() == digest(one) and time.monotonic() - began < 10
        before = scene.server("blue")
        ended(child)
        assert scene.serving() == digest(one) and scene.server("blue") == before
    finally:
        stop_all(scene.env)


def test_pause_abort_and_hold_reach_a_deploy_that_is_under_way(folder: Path) -> None:
    scene = Scene(strategy={"kind": "canary", "steps": [30, 100], "bake_seconds": 60})
    one, two = publish_fake("one"), publish_fake("two")
    try:
        scene.want(one)
        scene.turn()
        scene.want(two)
        child = in_child(scene)
        wait_until(lambda: scene.env.record.state().moves.weight == 30)
        assert pause(scene.env)["weight"] == 30
        assert abort(scene.env)["release"] == one and scene.env.router.weights() == {"blue": 100, "green": 0}
        wait_until(lambda: scene.env.record.state().slots["green"] is None)
        assert scene.env.record.state().slots["green"] is None and hold(scene.env)["release"] == one
        ended(child)
        assert scene.env.record.state().wanted.held and scene.serving() == digest(one)
    finally:
        stop_all(scene.env)
