"""The agent over the real door and the fake vLLM: it follows the YAML, brings back what dies, gives up what keeps dying, and dies without a trace."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.deploy import DeployConfig
from configs.errors import InputError, OutsideError
from infra.router import SlotName, api_key
from infra.slot import SlotProcess
from serve.agent import Agent, end_on_sigterm
from serve.deploy import promote, rollback, stop_all
from serve.environment import Environment, holder_of, locked
from serve.verbs import abort, hold, pause, resume
from tests.serve.fake_servers import fake_environment, fake_world, misbehave, publish_fake
from tests.serve.kills import kill, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
QUICK: dict[str, Any] = {"interval_seconds": 0.2, "probe_timeout_seconds": 0.5, "probe_failures": 2, "backoff_seconds": 0}


class Scene:
    """One environment whose YAML is `config`; `turn` is one turn of an agent that starts, looks and ends."""

    def __init__(self, **facts: Any) -> None:
        self.env = fake_environment(supervision=QUICK, **facts)
        self.config: DeployConfig = self.env.config
        self.said: list[str] = []
        self.agent = self.new_agent()

    def new_agent(self) -> Agent:
        return Agent(Environment(self.env.config, self.said.append), self.read)

    def read(self) -> DeployConfig:
        return self.config

    def want(self, release: str | None, **facts: Any) -> None:
        self.config = self.config.model_copy(update={"release": release, **facts})

    def turn(self, times: int = 1) -> None:
        with locked(self.env, "agent") as held:
            self.agent.env = Environment(self.env.config, self.said.append, token=held.token)
            for _ in range(times):
                self.agent.turn()

    def serving(self) -> str:
        reply = httpx.get(f"{self.env.router.base_url}/v1/models", headers={"Authorization": f"Bearer {api_key(self.env.config)}"}, timeout=5)
        return reply.headers.get("x-tunegate-release", str(reply.status_code))

    def server(self, slot: SlotName) -> SlotProcess:
        found = self.env.process(self.env.record.state(), slot)
        assert found
        return found

    def kinds(self) -> list[str]:
        return [event.kind for event in self.env.record.read() if event.kind not in ("acquired", "keyed")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in fake_world(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    found = Scene()
    yield found
    stop_all(found.env)


def digest(reference: str) -> str:
    return reference.partition("@")[2]


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
    scene.agent.liveness.misses["blue"] = 1
    misbehave(folder, one="hang")
    with locked(scene.env, "agent") as held:
        scene.agent.env = Environment(scene.env.config, scene.said.append, token=held.token)
        assert scene.agent.probe(held.record.state()) == {"blue"}
        misbehave(folder)
        scene.agent.liveness.misses["blue"] = 5
        scene.agent.probe = lambda state: frozenset({"blue"})  # type: ignore[method-assign]  # what was just seen
        scene.agent.turn()
    assert scene.server("blue") != first and scene.serving() == digest(one)
    assert [event.facts["why"] for event in scene.env.record.read() if event.kind == "crashed"] == ["it accepts requests and does not answer"]


def test_a_release_that_stops_answering_in_its_bake_is_rolled_back_though_not_one_request_failed_yet(scene: Scene, folder: Path) -> None:
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
    assert scene.serving() == digest(one) and scene.env.record.state().failed == two
    (why,) = [event.facts["why"] for event in scene.env.record.read() if event.kind == "desired" and "why" in event.facts]
    assert why.endswith("under traffic it accepts requests and does not answer")


def test_a_server_that_answers_with_errors_is_alive(scene: Scene, folder: Path) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    misbehave(folder, one="error")
    scene.turn(3)
    assert "crashed" not in scene.kinds() and scene.agent.liveness.misses["blue"] == 0


def test_the_third_crash_goes_back_to_the_last_good_release_and_stays_there(scene: Scene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    for _ in range(3):
        kill(scene.server("green"))
        scene.turn()
    assert scene.serving() == digest(one) and scene.env.record.state().failed == two
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


def test_a_killed_door_comes_back_with_its_shares(folder: Path) -> None:
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
        os.kill(scene.env.router.pid() or 0, signal.SIGKILL)
        wait_until(lambda: not scene.env.router.is_running())
        scene.turn()
        assert scene.env.router.weights() == {"blue": 60, "green": 40} and scene.env.record.state().weight == 40
    finally:
        stop_all(scene.env)


def test_settings_of_the_door_that_changed_reach_it_once_and_nothing_else_moves(scene: Scene) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    before, first = scene.kinds(), scene.server("blue")
    scene.want(one, door=scene.config.door.model_copy(update={"paths": ["/v1/chat/completions"]}))
    scene.turn(3)
    reply = httpx.get(f"{scene.env.router.base_url}/v1/models", headers={"Authorization": f"Bearer {api_key(scene.env.config)}"}, timeout=5)
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


def test_a_full_disk_stops_no_one_and_is_over_when_there_is_room_again(scene: Scene) -> None:
    """The record may not grow by one byte (RLIMIT_FSIZE): what a full disk does to an append."""
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    scene.want(two)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with locked(scene.env, "agent") as held:
        scene.agent.env = Environment(scene.env.config, scene.said.append, token=held.token)
        resource.setrlimit(resource.RLIMIT_FSIZE, (scene.env.record.path.stat().st_size, before[1]))
        try:
            scene.agent.turn()
            scene.agent.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert scene.serving() == digest(one) and len([line for line in scene.said if "the record cannot be written" in line]) == 1
        scene.agent.turn()
    assert scene.serving() == digest(two)


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
    with pytest.raises(OutsideError, match="has taken over from holder 1"):
        agent.turn()
    assert "starting" not in scene.kinds()


def in_child(scene: Scene) -> int:
    """The agent in a process of its own, as `tunegate agent` runs it."""
    child = os.fork()
    if child == 0:
        try:
            end_on_sigterm()
            scene.new_agent().run(0.2, once=False)
        finally:
            os._exit(0)
    wait_until(lambda: (found := holder_of(scene.env)) is not None and found.facts["pid"] == child)
    return child


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
        wait_until(lambda: scene.env.record.state().weight == 30)
        assert pause(scene.env)["weight"] == 30
        assert abort(scene.env)["release"] == one and scene.env.router.weights() == {"blue": 100, "green": 0}
        wait_until(lambda: scene.env.record.state().slots["green"] is None)
        assert scene.env.record.state().slots["green"] is None and hold(scene.env)["release"] == one
        ended(child)
        assert scene.env.record.state().held and scene.serving() == digest(one)
    finally:
        stop_all(scene.env)
