"""The plan, strategy by strategy, in a simulated world; killed at any moment in test_planner_machine.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.slots import SlotName
from serve.plan.action import Action
from serve.plan.situation import Observed
from serve.record.event import PROOF
from tests.support.planned import deployed, names
from tests.support.planner_world import NEW, NEXT, OLD, World, settings_of

pytestmark = pytest.mark.unit
CANARY: dict[str, Any] = {"strategy": {"kind": "canary", "steps": [5, 25, 100]}}


def test_a_first_deployment_proves_everything_before_it_switches() -> None:
    world = World(settings_of())
    world.note("desired", release=OLD)
    world.settle()
    assert names(world) == ["start_router", "measure", "start", *PROOF, "switch", "bake", "done"]


def test_a_second_deployment_leaves_the_old_slot_warm() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    assert world.weights == {"blue": 0, "green": 100} and world.servers == {"blue": OLD, "green": NEW}


def test_the_old_slot_is_retired_after_the_bake_where_it_is_not_kept() -> None:
    world = deployed(settings_of(keep=False))
    world.note("desired", release=NEW)
    world.settle()
    assert names(world).index("bake") < names(world).index("stop") and world.servers == {"green": NEW}


@pytest.mark.parametrize(
    "strategy",
    [{}, CANARY, {"capacity": "swap"}, {"capacity": "adapter"}],
    ids=["blue-green", "canary", "swap", "adapter"],
)
@pytest.mark.parametrize("proof", PROOF)
def test_a_refused_release_is_cleared_away_and_the_old_one_serves_on(proof: str, strategy: dict[str, Any]) -> None:
    world = deployed(settings_of(**strategy))
    world.bad, world.room = {NEW: proof}, strategy.get("capacity", "surge")
    world.note("desired", release=NEW)
    world.settle()
    assert world.servers == {"blue": OLD} and world.weights["blue"] == 100 and not world.paused


def test_a_canary_takes_its_share_step_by_step_and_each_is_watched() -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    world.settle()
    assert names(world) == ["measure", "start", *PROOF, "step", "analyse", "step", "analyse", "switch", "bake", "done"]
    assert [action.weight for action in world.log if action.kind == "step"] == [5, 25] and world.servers == {
        "blue": OLD,
        "green": NEW,
    }


@pytest.mark.parametrize("fault", ["breach", "death"])
def test_a_canary_that_breaks_gives_its_share_back_and_is_stopped(fault: str) -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    while world.state.moves.weight != 25:
        world.step()
    if fault == "breach":
        world.breach = {NEW}
    else:
        world.end("green")
    assert (
        world.settle().kind == "refused"
        and world.servers == {"blue": OLD}
        and world.weights == {"blue": 100, "green": 0}
    )
    assert ("died under 25 %" in str(world.state.refused)) == (fault == "death")


def test_a_canary_goes_back_at_once_when_it_is_rolled_back() -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    world.settle()
    world.log.clear()
    world.note("desired", release=OLD, rollback=True)
    world.settle()
    assert names(world) == ["switch", "done"] and world.weights == {"blue": 100, "green": 0}


def test_a_router_that_forgot_the_shares_is_told_again_and_the_watch_goes_on() -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    while world.state.moves.weight != 25:
        world.step()
    began = world.state.moves.step
    world.weights = {"blue": 100, "green": 0}
    assert world.next() == Action("step", "green", weight=25)
    world.step()
    assert world.weights == {"blue": 75, "green": 25} and world.state.moves.step == began


def test_a_swap_holds_the_router_and_stops_what_serves_before_the_new_one_starts() -> None:
    world = deployed()
    world.room = "swap"
    world.note("desired", release=NEW)
    world.settle()
    assert names(world) == ["measure", "queue", "stop", "start", *PROOF, "switch", "bake", "done"]
    assert world.servers == {"green": NEW} and not world.paused
    switch = world.state.moves.switch
    assert switch and (switch["queued_seconds"] or 0) > 0


def test_a_swap_whose_new_server_dies_brings_the_old_one_back() -> None:
    world = deployed()
    world.room = "swap"
    world.note("desired", release=NEW)
    while world.servers != {"green": NEW}:
        world.step()
    world.step()
    world.end("green")
    assert world.settle().kind == "refused" and world.servers == {"blue": OLD} and world.serving() == {"blue"}


def test_a_shadow_is_the_last_proof_where_there_is_something_to_copy_from() -> None:
    world = World(settings_of(strategy={"kind": "shadow", "share": 10, "seconds": 5}))
    world.note("desired", release=OLD)
    world.settle()
    assert "shadow" not in names(world)
    world.log.clear()
    world.note("desired", release=NEW)
    world.settle()
    assert names(world)[-5:] == ["load", "shadow", "switch", "bake", "done"]


@pytest.mark.parametrize(("strategy", "waits_at"), [({}, 0), (CANARY, 25)])
def test_manual_promotion_waits_for_all_of_the_traffic(strategy: dict[str, Any], waits_at: int) -> None:
    world = World(settings_of(promotion="manual", **strategy))
    world.note("desired", release=OLD)
    assert world.settle().kind == "await_promotion" and world.serving() == set()
    world.note("promoted", release=OLD)
    assert world.settle().kind == "done"
    world.note("desired", release=NEW)
    assert world.settle().kind == "await_promotion" and world.weights == {"blue": 100 - waits_at, "green": waits_at}
    world.note("promoted", release=NEW)
    assert world.settle().kind == "done" and world.weights["green"] == 100


def test_a_pause_stays_at_its_step_and_resume_goes_on() -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    while world.state.moves.weight != 5:
        world.step()
    world.note("paused")
    assert world.settle().kind == "paused" and world.weights == {"blue": 95, "green": 5}
    world.end("blue")  # repair is no progress: it goes on
    world.settle()
    assert world.serving() == {"green"}
    world.note("resumed")
    assert world.settle().kind == "done" and world.state.release_of(world.state.active) == NEW


@pytest.mark.parametrize("at", ["start", "step", "bake"])
def test_an_abort_goes_back_to_what_served_and_stops_the_new_one(at: str) -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    while world.next().kind != at:
        world.step()
    world.note("aborted", why="aborted by the operator")
    assert world.settle().kind == ("done" if at == "bake" else "refused")
    assert world.servers == {"blue": OLD} and world.serving() == {"blue"} and world.weights["blue"] == 100


def test_a_hold_calls_off_what_is_under_way_until_resume() -> None:
    world = deployed(settings_of(**CANARY))
    world.note("desired", release=NEW)
    while world.state.moves.weight != 5:
        world.step()
    world.note("held", release=OLD)
    assert world.settle().kind == "done" and world.servers == {"blue": OLD} and world.weights["blue"] == 100
    world.note("resumed")
    assert not world.state.wanted.held and world.state.wanted.pinned is None


def test_a_rollback_switches_at_once_and_repeats_no_proof() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    world.log.clear()
    world.note("desired", release=OLD, rollback=True)
    world.settle()
    assert names(world) == ["switch", "done"] and world.serving() == {"blue"}


def test_a_failed_release_is_retired_after_the_rollback() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    world.note("desired", release=OLD, rollback=True, failed=NEW)
    world.settle()
    assert world.servers == {"blue": OLD} and world.serving() == {"blue"}


def test_a_third_release_takes_the_idle_slot() -> None:
    world = deployed()
    for release in (NEW, NEXT):
        world.note("desired", release=release)
        world.settle()
    assert world.servers == {"blue": NEXT, "green": NEW} and world.serving() == {"blue"}


@given(st.lists(st.integers(1, 4), max_size=5))
def test_the_plan_depends_on_nothing_but_its_inputs(kills: list[int]) -> None:
    world = deployed()
    world.note("desired", release=NEW)
    for kill in kills:
        world.step(killed_after=kill)
    assert world.next() == world.next()


@pytest.mark.parametrize(
    ("weights", "slot"), [({"blue": 100, "green": 0}, "blue"), ({"blue": 95, "green": 5}, None), ({}, None)]
)
def test_one_slot_is_routed_to_where_it_has_all(weights: dict[SlotName, int], slot: str | None) -> None:
    assert Observed(True, weights, frozenset()).routed == slot
