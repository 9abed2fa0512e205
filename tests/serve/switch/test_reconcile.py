"""The loop over real records and real release folders: a deployment, killed whenever it may be, and what dies later.
The machine is that of fake_machine.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ExternalError, RefusedError
from serve.deploy import deploy, stop_all
from serve.record.environment import locked
from serve.record.event import PROOF
from serve.view.status import status
from tests.support.fake_machine import World, environment, kinds, new, old, receipt_in, world
from tests.support.few_bytes import publish
from tests.support.tasks_here import Killed

__all__ = ["new", "old", "world"]
pytestmark = pytest.mark.unit
FIRST = ["open", "label blue", "start blue", *(f"prove {proof}" for proof in PROOF), "switch blue"]


def test_a_first_deployment_opens_starts_proves_in_order_switches_and_bakes(world: World, old: str) -> None:
    env = environment()
    world.count("blue", failed=7)  # before the switch: none of the bake's business
    found = deploy(env, old)
    assert world.done == FIRST and world.serving() == found["release"] == old
    assert kinds(env) == [
        "desired",
        "planned",
        "starting",
        "started",
        *["proven"] * len(PROOF),
        "switching",
        "switched",
        "baked",
    ]
    assert (
        receipt_in(found)["from"]["slot"] is None
        and receipt_in(found)["seconds_watched"] >= 1
        and receipt_in(found)["requests_failed"] == 0
    )


def test_the_next_release_takes_the_other_slot_and_the_old_one_stays_warm(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    world.done.clear()
    found = deploy(env, new)
    assert world.done == [step.replace("blue", "green") for step in FIRST[1:]] and world.serving() == new
    assert (
        world.runs == {8101: old, 8102: new}
        and len(world.servers) == 2
        and receipt_in(found)["from"] == {"slot": "blue", "release": old}
    )
    world.done.clear()
    deploy(env, new)
    assert world.done == []


def test_the_old_slot_is_retired_once_its_streams_have_ended_where_it_is_not_kept(
    world: World, old: str, new: str
) -> None:
    env = environment(keep_old_slot=False)
    deploy(env, old)
    world.count("blue", open=8)
    world.on_sleep = lambda: world.count("blue", open=max(0, world.counts["blue"].open - 1))
    assert receipt_in(deploy(env, new))["streams_completed"] == 8
    assert world.done[-1] == "stop blue" and kinds(env)[-2:] == ["baked", "stopped"]


@pytest.mark.parametrize("first", [True, False], ids=["onto nothing", "over what serves"])
def test_killed_at_any_point_the_same_command_ends_with_the_desired_release_serving(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    for number in range(1, 100):
        world, env = World().install(monkeypatch), environment(f"state-{number}")
        if not first:
            deploy(env, old)
        world.points, world.kill_at = 0, number
        try:
            deploy(env, new)
        except Killed:
            assert world.serving() in ({None, new} if first else {old, new}), number
            deploy(env, new)
        state = env.record.state()
        assert (
            world.serving() == state.release_of(state.active) == new and state.baked and state.moves.switching is None
        ), number
        assert len(world.servers) == (1 if first else 2), number
        if world.points < number:
            assert number > 40
            return
    raise AssertionError("a deployment has no end")


@settings(max_examples=25)
@given(kills=st.lists(st.integers(1, 40), max_size=6), bad=st.sampled_from([None, *PROOF]))
def test_killed_again_and_again_what_serves_is_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], bad: str | None
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("checkout"))
        old, new, env, world = publish("old"), publish("new"), environment(), World().install(monkeypatch)
        deploy(env, old)
        world.fails = {f"prove {bad}": RefusedError("bad")}
        for number in [*kills, 0]:
            world.points, world.kill_at = 0, number
            try:
                deploy(env, new)
            except (Killed, RefusedError):
                assert world.serving() == old or not bad
        assert (world.serving(), len(world.servers)) == ((old, 1) if bad else (new, 2))


@pytest.mark.parametrize(
    ("victim", "steps"), [(8101, ["label blue", "start blue", "prove healthy"]), (8102, ["switch blue"])]
)
def test_a_dead_server_is_started_again_or_replaced_by_its_heir(
    world: World, old: str, new: str, victim: int, steps: list[str]
) -> None:
    env = environment()
    deploy(env, old)
    if victim == 8102:
        deploy(env, new)
    del world.servers[victim]
    world.done.clear()
    deploy(env, old)
    assert world.serving() == old and world.done == steps


def test_a_server_that_cannot_be_brought_back_does_not_condemn_its_release(world: World, old: str) -> None:
    env = environment()
    deploy(env, old)
    world.servers.clear()
    world.fails = {"start blue": ExternalError("start blue failed")}
    with pytest.raises(ExternalError, match="start blue failed"):
        deploy(env, old)
    world.fails = {}
    assert env.record.state().refused is None and deploy(env, old)["release"] == world.serving() == old


def test_stop_ends_the_router_first_then_both_slots_and_may_be_repeated(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    deploy(env, new)
    world.done.clear()
    stop_all(env, 30)
    assert world.done == ["close 30", "stop blue", "stop green"] and kinds(env)[-2:] == ["stopped", "stopped"]
    before = kinds(env)
    stop_all(env)
    assert kinds(env) == before and env.record.state().active is None
    world.done.clear()
    deploy(env, new)
    assert world.done == FIRST and world.serving() == new


def test_status_reads_and_changes_nothing(world: World, old: str, new: str) -> None:
    env = environment()
    assert status(env)["active"] is None and not env.folder.exists()
    deploy(env, old)
    world.fails = {"prove parity": RefusedError("bad")}
    with pytest.raises(RefusedError):
        deploy(env, new)
    world.count("blue", open=2)
    effects = list(world.done)
    with locked(env):
        content = env.record.path.read_bytes()
        seen = json.loads(json.dumps(status(env)))
    assert env.record.path.read_bytes() == content and world.done == effects
    assert seen["router"] == {"url": "http://router", "running": True, "sends_to": "blue"} and (
        seen["desired"],
        seen["refused"],
    ) == (new, "bad")
    assert seen["slots"]["blue"] == {
        "release": old,
        "server": "127.0.0.1:8101",
        "alive": True,
        "servers": {"wanted": 1, "alive": 1},
        "weight": 100,
        "proofs": list(PROOF),
        "open_streams": 2,
        "requests": 0,
    }
    assert seen["slots"]["green"]["release"] is None and [event["kind"] for event in seen["events"]] == kinds(env)[-8:]
