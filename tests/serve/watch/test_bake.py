"""A bake that saw too little is no pass: it is extended, then a person is waited for, or as the YAML says; and what is
watched on is watched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from configs.errors import RefusedError
from configs.slots import SlotName
from serve.deploy import deploy
from serve.operate import abort, pause, resume
from serve.record.environment import Environment
from serve.record.receipt import in_one_line, last_receipt
from serve.view.status import standing, status
from tests.support.fake_machine import World, environment, kinds, new, old, receipt_in, world
from tests.support.tasks_here import Killed
from tests.support.traffic import asked, counted
from tunegate import compare_by

__all__ = ["new", "old", "world"]
pytestmark = pytest.mark.unit


def watched(**facts: Any) -> Environment:
    """As a YAML that says nothing has it, but for the times."""
    watch = {"on_inconclusive": "extend", "extend_seconds": 30, **facts.pop("watch", {})}
    return Environment(environment(watch=watch, bake_seconds=5, **facts).config, compare=compare_by())


def serve_users(world: World, slot: SlotName, n: int, **facts: Any) -> None:
    total = counted(*[asked(**facts)] * n)
    world.strata[slot] = total.strata or {}
    world.count(slot, total=n, failed=total.failed)


def ends_when(env: Environment, done: Callable[[], bool]) -> Callable[[], None]:
    """The command dies there; whoever comes after it goes on from the record."""

    def look() -> None:
        if done():
            raise Killed

    return look


def doubts(env: Environment) -> list[tuple[str, float | None]]:
    found = [event.facts for event in env.record.read() if event.kind == "inconclusive"]
    return [(facts["then"], facts.get("seconds")) for facts in found]


@pytest.fixture
def served(world: World, old: str) -> Environment:
    """The old release has served 100 users; of the new one nobody asks anything yet."""
    env = watched()
    for slot in ("blue", "green"):
        world.strata[slot] = {}
    deploy(env, old)
    serve_users(world, "blue", 100)
    return env


def test_the_first_release_has_nothing_to_be_worse_than_and_its_receipt_says_so(served: Environment) -> None:
    receipt = last_receipt(served)
    assert (receipt["outcome"], receipt["decided_by"]) == ("pass", "nothing was compared: no release served before")


def test_without_traffic_it_is_extended_once_then_a_person_is_waited_for_and_resume_accepts(
    world: World, served: Environment, new: str
) -> None:
    said: list[str] = []
    served = replace(served, report_progress=said.append)
    began = world.now
    world.on_sleep = ends_when(served, lambda: served.record.state().awaits_person is not None)
    with pytest.raises(Killed):
        deploy(served, new)
    first, second = (line for line in said if line.startswith("inconclusive: "))
    assert first.endswith("watched for 30 s more at most")
    assert second.endswith(f"paused, a person is needed: tunegate resume {served.config.name}")
    assert 34 <= (world.now - began).total_seconds() < 45 and doubts(served) == [("extend", 30.0), ("pause", None)]
    assert world.serving() == new and "baked" not in kinds(served)[-4:]
    seen = status(served)
    assert seen["paused"] and "0 requests, 100 of the old release" in seen["inconclusive"]
    assert "resume" in standing(seen)["inconclusive"] and "paused" in standing(seen)["next"]
    receipt = last_receipt(served)
    assert receipt["outcome"] == "inconclusive" and "0 requests" in receipt["decided_by"]
    assert "accepted_by" not in receipt
    found = receipt_in(resume(served))
    assert (found["outcome"], found["accepted_by"]) == ("inconclusive", "a person")
    assert "inconclusive, accepted by a person" in in_one_line(found) and "inconclusive" not in status(served)
    assert kinds(served)[-1] == "baked" and served.record.state().good[-1] == new


def test_a_command_that_comes_while_a_person_is_waited_for_asks_for_nothing_again(
    world: World, served: Environment, new: str
) -> None:
    world.on_sleep = ends_when(served, lambda: served.record.state().awaits_person is not None)
    with pytest.raises(Killed):
        deploy(served, new)
    looks = iter(range(100))
    world.on_sleep = ends_when(served, lambda: next(looks) > 40)
    with pytest.raises(Killed):
        deploy(served, new)
    assert doubts(served) == [("extend", 30.0), ("pause", None)] and "baked" not in kinds(served)[-4:]


def test_traffic_that_comes_in_the_extension_decides(world: World, served: Environment, new: str) -> None:
    began = world.now

    def come() -> None:
        if doubts(served) and (world.now - began).total_seconds() > 15:
            serve_users(world, "green", 25)

    world.on_sleep = come
    found = receipt_in(deploy(served, new))
    assert found["outcome"] == "pass" and "not shown to be worse: error rate" in found["decided_by"]
    assert 15 < found["seconds_watched"] < 20 and doubts(served) == [("extend", 30.0)]


@pytest.mark.parametrize("then", ["extend", "pause"])
def test_a_breach_goes_back_while_it_is_extended_and_while_a_person_is_waited_for(
    world: World, served: Environment, new: str, old: str, then: str
) -> None:
    def come() -> None:
        if doubts(served) and doubts(served)[-1][0] == then:
            serve_users(world, "green", 60, first=1.0)

    world.on_sleep = come
    with pytest.raises(RefusedError, match="under traffic mean time to first token"):
        deploy(served, new)
    assert world.serving() == old and served.record.state().inconclusive is None
    receipts = [json.loads(path.read_text()) for path in sorted((served.folder / "receipts").glob("*.json"))]
    (bad,) = [one for one in receipts if one.get("outcome") == "fail"]
    assert bad["decided_by"] == bad["breach"] and "time to first token 1 against 0.05" in bad["breach"]


@pytest.mark.parametrize(
    ("facts", "by", "seen"),
    [
        ({"watch": {"on_inconclusive": "accept"}}, "on_inconclusive: accept", []),
        ({"bake_seconds": 0}, "bake_seconds: 0", []),
    ],
)
def test_who_accepts_is_in_the_receipt(
    world: World, served: Environment, new: str, facts: dict[str, Any], by: str, seen: list[Any]
) -> None:
    config = served.config.model_copy(update={"bake_seconds": facts.get("bake_seconds", 5)})
    config = config.model_copy(update={"watch": config.watch.model_copy(update=facts.get("watch", {}))})
    found = receipt_in(deploy(Environment(config, compare=compare_by()), new))
    assert (found["outcome"], found["accepted_by"]) == ("inconclusive", by) and doubts(served) == seen


def test_pause_waits_at_once(world: World, served: Environment, new: str) -> None:
    config = served.config.model_copy(
        update={"watch": served.config.watch.model_copy(update={"on_inconclusive": "pause"})}
    )
    env = Environment(config, compare=compare_by())
    began = world.now
    world.on_sleep = ends_when(env, lambda: env.record.state().awaits_person is not None)
    with pytest.raises(Killed):
        deploy(env, new)
    assert (world.now - began).total_seconds() < 8 and doubts(env) == [("pause", None)]
    world.on_sleep = lambda: None
    assert abort(env)["release"] == world.serving() != new and env.record.state().awaits_person is None


def test_traffic_of_another_kind_is_no_pass_either(world: World, served: Environment, new: str) -> None:
    serve_users(world, "green", 0)
    world.on_sleep = lambda: serve_users(world, "green", 60, body_bytes=30_000)
    looks = iter(range(10_000))
    world.on_sleep = lambda: (
        serve_users(world, "green", 60, body_bytes=30_000),
        ends_when(served, lambda: served.record.state().awaits_person is not None)(),
        next(looks),
    )
    with pytest.raises(Killed):
        deploy(served, new)
    assert "prompts are 30.0 times as long as in the old release's window" in str(served.record.state().awaits_person)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_step_of_the_clock_neither_ends_nor_lengthens_it(
    world: World, served: Environment, new: str, seconds: float
) -> None:
    began = world.now

    def step() -> None:
        if doubts(served):
            world.clock_ahead = seconds
        if served.record.state().awaits_person:
            raise Killed

    world.on_sleep = step
    with pytest.raises(Killed):
        deploy(served, new)
    assert 34 <= (world.now - began).total_seconds() < 45 and doubts(served) == [("extend", 30.0), ("pause", None)]


def test_killed_at_any_moment_it_ends_as_it_would_have(world: World, served: Environment, new: str) -> None:
    ticks = iter(range(10_000))
    world.on_sleep = ends_when(served, lambda: next(ticks) % 7 == 6 or served.record.state().awaits_person is not None)
    began = world.now
    while not served.record.state().awaits_person:
        with pytest.raises(Killed):
            deploy(served, new)
    assert (world.now - began).total_seconds() < 50 and doubts(served) == [("extend", 30.0), ("pause", None)]


def test_a_share_that_cannot_tell_goes_no_further_until_a_person_says_so(world: World, old: str, new: str) -> None:
    env = watched(strategy={"kind": "canary", "steps": [20, 100], "bake_seconds": 5})
    world.strata |= {"blue": {}, "green": {}}
    deploy(env, old)
    serve_users(world, "blue", 100)
    world.on_sleep = ends_when(env, lambda: env.record.state().awaits_person is not None)
    with pytest.raises(Killed):
        deploy(env, new)
    assert world.shares == {"blue": 80, "green": 20} and "analysed" not in kinds(env)
    world.on_sleep = lambda: serve_users(world, "green", 60) if world.shares["green"] == 100 else None
    found = receipt_in(resume(env))
    (share,) = [event.facts for event in env.record.read() if event.kind == "analysed"]
    assert (share["outcome"], share["accepted_by"]) == ("inconclusive", "a person")
    assert found["outcome"] == "pass" and "accepted_by" not in found, "what was accepted was the share alone"


def test_a_persons_own_pause_comes_first(world: World, served: Environment, new: str) -> None:
    """While paused nothing is concluded, and so nothing is inconclusive."""
    looks = iter(range(10_000))

    def look() -> None:
        number = next(looks)
        if number == 2:
            pause(served)
        if number == 200:
            raise Killed

    world.on_sleep = look
    with pytest.raises(Killed):
        deploy(served, new)
    assert doubts(served) == [] and status(served)["paused"]
