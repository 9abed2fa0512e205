"""What the plan does about servers that die or hang, once and again, in a simulated world."""

from __future__ import annotations

import pytest

from configs.slots import SlotName
from tests.support.planned import deployed, names
from tests.support.planner_world import NEW, OLD, World, settings_of

pytestmark = pytest.mark.unit


def test_a_dead_server_hands_over_to_the_warm_standby_and_comes_back_in_the_other_slot() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    world.log.clear()
    world.end("green")
    world.settle()
    assert names(world)[:2] == ["crashed", "switch"] and world.servers["green"] == NEW and world.serving() == {"green"}


def test_a_server_without_a_standby_starts_again_in_place_with_a_growing_wait() -> None:
    world = deployed(settings_of(supervision={"max_crashes": 4, "backoff_seconds": 8}))
    for crash, waits in enumerate(([], [8.0], [16.0])):
        world.log.clear()
        world.end("blue")
        world.settle()
        assert [
            round(action.seconds) >= wait - 2
            for action, wait in zip([one for one in world.log if one.kind == "wait"], waits, strict=True)
        ] == [True for _ in waits], crash
        assert world.serving() == {"blue"}


@pytest.mark.parametrize("hung", [False, True])
def test_a_hung_server_is_treated_like_a_crash(hung: bool) -> None:
    world = deployed()
    assert world.next().kind == "done"
    if hung:
        world.hung.add("blue")
    else:
        world.end("blue")
    assert world.next().kind == "crashed"
    world.settle()
    assert world.serving() == {"blue"} and world.kinds.count("crashed") == 1


def crash_repeatedly(world: World, slot: SlotName, times: int) -> None:
    for _ in range(times):
        world.end(slot)
        while world.next().kind not in ("done", "paged") and slot not in world.serving():
            world.step()


def test_three_crashes_of_a_release_go_back_to_the_last_good_one_even_if_it_is_not_warm() -> None:
    world = deployed(settings_of(keep=False))
    world.note("desired", release=NEW)
    world.settle()
    crash_repeatedly(world, "green", 3)
    assert (
        world.settle().kind == "done"
        and world.state.release_of(world.state.active) == OLD
        and world.serving() == {"blue"}
    )
    assert (world.state.wanted.failed, world.state.wanted.rollback) == (NEW, True)


def test_three_crashes_without_anything_to_go_back_to_call_for_a_person_and_a_resume_tries_again() -> None:
    world = deployed()
    crash_repeatedly(world, "blue", 3)
    assert world.settle().kind == "paged" and world.servers == {} and "3 crashes within 600 s" in str(world.state.paged)
    assert world.kinds.count("paged") == 1
    world.note("resumed")
    assert world.settle().kind == "done" and world.serving() == {"blue"}


def test_crashes_outside_the_window_do_not_count() -> None:
    world = deployed()
    for _ in range(6):
        crash_repeatedly(world, "blue", 1)
        world.now += 601
    assert world.settle().kind == "done" and world.serving() == {"blue"}


def test_a_candidate_that_keeps_dying_before_its_proof_is_refused_at_the_third_time() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    for _ in range(200):
        action = world.step()
        if action.kind == "prove" and action.slot == "green":
            world.end("green")
        if action.kind == "refused":
            break
    assert world.kinds.count("crashed") <= 3 and world.servers == {"blue": OLD} and world.serving() == {"blue"}
