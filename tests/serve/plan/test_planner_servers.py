"""Slots that are sets of servers: started one by one, proven each, and brought back while the others serve."""

from __future__ import annotations

import pytest

from serve.plan.action import Action
from serve.record.event import PROOF
from tests.support.planned import deployed
from tests.support.planner_world import NEW, OLD, World, settings_of

pytestmark = pytest.mark.unit


def pair(**facts: object) -> World:
    return deployed(settings_of(slots={"servers": 2}, **facts))


def steps(world: World) -> list[tuple[str, int]]:
    """What was done since, a proof by its name, and to which server."""
    return [(one.proof or one.kind, one.server) for one in world.log if isinstance(one, Action)]


def test_every_server_is_started_and_shows_every_proof_before_any_traffic() -> None:
    world = World(settings_of(slots={"servers": 2}))
    world.note("desired", release=OLD)
    world.settle()
    proofs = [(proof, number) for proof in PROOF for number in (0, 1)]
    expected = [("start_router", 0), ("measure", 0), ("start", 0), ("start", 1), *proofs, ("switch", 0), ("bake", 0)]
    assert steps(world) == expected


def test_one_that_dies_comes_back_while_the_other_serves() -> None:
    world = pair()
    world.kill_one("blue", 1)
    assert world.serving() == {"blue"} and world.settle().kind == "done"
    assert steps(world) == [("crashed", 1), ("start", 1), ("healthy", 1)]
    found = world.state.slots["blue"]
    assert found and not found.missing and found.is_proven and world.state.wanted.failed is None


def test_it_comes_back_before_a_candidate_goes_on() -> None:
    world = pair()
    world.note("desired", release=NEW)
    while not (world.task and world.task[0].proof == "warm"):
        world.step(left_after=1)
        if world.task and world.task[0].proof != "warm":
            world.go_on(None, None)
    world.kill_one("blue", 0)
    world.log.clear()
    assert world.settle().kind == "done" and world.state.active == "green"
    assert steps(world)[:4] == [("crashed", 0), ("start", 0), ("healthy", 0), ("warm", 0)]


def test_with_both_gone_the_warm_slot_takes_over_and_without_one_both_start_again() -> None:
    world = pair()
    world.kill("blue")
    assert world.settle().kind == "done" and world.serving() == {"blue"}
    names = [("crashed", 0), ("crashed", 1), ("start", 0), ("start", 1), ("healthy", 0), ("healthy", 1)]
    assert sorted(steps(world)) == sorted(names)
    world.note("desired", release=NEW)
    world.settle()
    world.log.clear()
    world.kill("green")
    world.settle()
    assert world.serving() == {"green"} and world.state.release_of("green") == NEW


def test_servers_that_die_together_are_one_crash_and_one_that_keeps_dying_is_given_up() -> None:
    world = pair(supervision={"max_crashes": 2, "backoff_seconds": 0})
    world.kill("blue")
    world.settle()
    assert world.state.paged is None
    for _ in range(2):
        world.kill_one("blue", 1)
        world.settle()
    assert world.state.paged == f"{OLD}: 2 crashes within 600 s, and there is no release to go back to"
    assert world.serving() == {"blue"}, "the other one serves on"


def test_a_candidate_whose_one_server_dies_gets_it_again_until_the_limit() -> None:
    world = pair(supervision={"max_crashes": 1, "backoff_seconds": 0})
    world.note("desired", release=NEW)
    while not (world.task and world.task[0].proof == "smoke"):
        world.step(left_after=1)
        if world.task and world.task[0].proof != "smoke":
            world.go_on(None, None)
    world.task = None
    for _ in range(2):
        world.kill_one("green", 1)
        for _ in range(2):
            world.step()
    assert world.settle().kind == "refused" and world.serving() == {"blue"} and "green" not in world.servers
