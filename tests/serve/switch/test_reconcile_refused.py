"""The loop where it goes no further: what is refused, what is rolled back, what waits for a person. The machine is that
of fake_machine.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.verdict import Verdict
from serve.deploy import deploy, promote, rollback, stop_all
from serve.record.environment import Environment, locked
from serve.record.event import PROOF
from tests.support.fake_machine import World, environment, kinds, new, old, receipt_in, world
from tests.support.few_bytes import publish
from tunegate import compare_by

__all__ = ["new", "old", "world"]
pytestmark = pytest.mark.unit


@pytest.mark.parametrize("step", ["start green", *(f"prove {proof}" for proof in PROOF)])
def test_what_fails_before_the_switch_leaves_what_served_serving_and_the_next_attempt_tries_again(
    world: World, old: str, new: str, step: str
) -> None:
    env = environment()
    deploy(env, old)
    world.fails = {step: RefusedError(f"{step} is bad")}
    for attempt in (1, 2):
        with pytest.raises(RefusedError, match=f"{step} is bad"):
            deploy(env, new)
        assert kinds(env).count("starting") == 1 + attempt and env.record.state().refused == f"{step} is bad"
        assert world.serving() == old and list(world.servers) == [8101] and env.record.state().slots["green"] is None
    world.fails = {}
    deploy(env, new)
    assert world.serving() == new


def test_a_first_release_that_fails_its_proof_leaves_nothing_behind(world: World, old: str) -> None:
    world.fails = {"prove smoke": RefusedError("smoke is bad")}
    with pytest.raises(RefusedError, match="smoke is bad"):
        deploy(environment(), old)
    assert world.servers == {} and world.done == [
        "open",
        "label blue",
        "start blue",
        "prove healthy",
        "prove warm",
        "stop blue",
    ]


@pytest.mark.parametrize("message", ["2 requests failed", "its server died"])
def test_a_failed_bake_goes_back_to_the_old_slot_and_retires_the_new_one(
    world: World, old: str, new: str, message: str
) -> None:
    env = environment()
    deploy(env, old)
    world.on_sleep = lambda: world.count("green", failed=2) if "requests" in message else world.servers.pop(8102, None)
    with pytest.raises(RefusedError, match=message):
        deploy(env, new)
    state = env.record.state()
    assert world.serving() == state.wanted.desired == old and (state.wanted.failed, state.wanted.rollback) == (
        new,
        True,
    )
    assert list(world.servers) == [8101] and world.done.count("start blue") == 1


def test_a_failed_bake_with_nothing_to_go_back_to_is_refused_and_serves_on(world: World, old: str) -> None:
    env = environment()
    world.on_sleep = lambda: world.count("blue", failed=1)
    with pytest.raises(RefusedError, match="1 requests failed"):
        deploy(env, old)
    assert world.serving() == old and kinds(env)[-1] == "refused"


def watched(**facts: Any) -> Environment:
    return Environment(environment(watch={"failures_allowed": None}, **facts).config, compare=compare_by())


def test_a_breach_of_the_watch_goes_back_and_its_reason_is_on_record(world: World, old: str, new: str) -> None:
    env = watched(bake_seconds=60)
    deploy(env, old)
    world.count("blue", total=500)
    started = world.now
    world.on_sleep = lambda: world.count("green", total=60, failed=20) if world.routed == "green" else None
    with pytest.raises(RefusedError, match=r"under traffic error rate 33\.3% of 60 against 0\.0% of 500"):
        deploy(env, new)
    (back,) = [event for event in env.record.read() if event.facts.get("rollback")]
    assert (
        "error rate 33.3%" in back.facts["why"] and world.serving() == old and (world.now - started).total_seconds() < 5
    )


def test_too_little_traffic_to_compare_rolls_nothing_back_and_the_receipt_says_so(
    world: World, old: str, new: str
) -> None:
    env = watched()
    first = deploy(env, old)
    assert receipt_in(first)["watch"] == ["nothing was compared: no release served before"]
    world.on_sleep = lambda: world.count("green", total=3, failed=3)
    found = deploy(env, new)
    assert world.serving() == new and receipt_in(found)["watch"] == [
        "error rate is inconclusive: 3 observations, 0 of the old release, at least 20 of each are needed",
        "traffic is inconclusive: the old release's server does not say what its users asked: "
        "only the router's error rate is compared",
    ]
    assert receipt_in(found)["accepted_by"] == "on_inconclusive: accept"


def test_a_rollback_returns_to_the_warm_slot_and_starts_and_proves_nothing(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    deploy(env, new)
    world.count("green", open=4)
    world.done.clear()
    found = rollback(env)
    assert world.done == ["switch blue"] and world.serving() == found["release"] == old
    assert found["streams_open_at_switch"] == 4 and len(world.servers) == 2


def test_a_rollback_without_a_warm_slot_is_refused(world: World, old: str, new: str) -> None:
    env = environment()
    for prepare in (lambda: None, lambda: deploy(env, old), lambda: (deploy(env, new), world.servers.pop(8101))):
        prepare()
        before = kinds(env)
        with pytest.raises(RefusedError, match=r"no proven release is warm(.|\n)*tunegate deploy x RELEASE"):
            rollback(env)
        assert kinds(env) == before
    assert world.serving() == new


def test_where_promotion_is_manual_a_proven_release_waits_until_it_is_let_in(world: World, old: str, new: str) -> None:
    env = environment(promotion="manual")
    waiting = deploy(env, old)
    assert (
        (waiting["waiting"], waiting["release"]) == (old, None)
        and "promote x" in waiting["next"]
        and world.serving() is None
    )
    assert promote(env)["release"] == old
    assert deploy(env, new)["waiting"] == deploy(env, new)["waiting"] == new and world.serving() == old
    assert promote(env)["release"] == world.serving() == new and world.done.count("start green") == 1


def test_nothing_is_promoted_where_nothing_waits(world: World, old: str, new: str) -> None:
    env = environment(promotion="manual")

    def refused() -> None:
        world.fails = {"prove parity": RefusedError("bad")}
        with pytest.raises(RefusedError, match="bad"):
            deploy(env, new)

    for prepare in (lambda: None, lambda: (deploy(env, old), promote(env)), refused):
        prepare()
        with pytest.raises(RefusedError, match="no proven release is waiting"):
            promote(env)
    assert world.serving() == old


@pytest.mark.parametrize("command", [lambda env: deploy(env, publish("one")), promote, stop_all])
def test_a_second_command_at_the_same_time_is_refused(world: World, command: Callable[[Environment], object]) -> None:
    env = environment()
    with locked(env), pytest.raises(InputError, match="another command is changing x"):
        command(env)
    assert world.done == [] and kinds(env) == []


def test_without_a_passing_verdict_on_these_bytes_nothing_is_begun(world: World, old: str, new: str) -> None:
    verdict = Path(f"releases/old@{old[11:23]}/gate/verdict.json")
    Verdict(release=new, outcome="pass", results=[]).write(verdict)
    with pytest.raises(RefusedError, match="pass on new@"):
        deploy(environment(), old)
    verdict.unlink()
    with pytest.raises(RefusedError, match="no verdict beside it"):
        deploy(environment(), old)
    with pytest.raises(RefusedError, match="the verdict is inconclusive"):
        deploy(environment(), publish("unsure", "inconclusive"))
    assert world.done == [] and not environment().folder.exists()
