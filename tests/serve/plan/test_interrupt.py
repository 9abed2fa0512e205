"""While a long action runs: what may not wait for it, and what leaves it alone. Real plans of a simulated machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.slots import SlotName
from serve.plan.action import Action, End
from serve.plan.interrupt import is_called_off, more_urgent
from serve.record.state import State
from tests.support.planned import deployed
from tests.support.planner_world import NEW, NEXT, OLD, World, settings_of

pytestmark = pytest.mark.unit
CANARY = {"kind": "canary", "steps": [20, 100], "bake_seconds": 60}


def under_way(world: World, kind: str, proof: str | None = None) -> Action:
    """NEW is deployed over OLD until such an action has begun, and goes on."""
    world.note("desired", release=NEW)
    for _ in range(40):
        action = world.step(left_after=1)
        if not world.task or isinstance(action, End):
            continue
        if action.kind == kind and action.proof == proof:
            return action
        world.go_on(None, None)
    raise AssertionError(f"no {kind} in {world.log}")


def urgent(world: World) -> Action | None:
    assert world.task
    return more_urgent(world.task[0], world.state, world.config, world.observed())


@pytest.mark.parametrize("proof", ["healthy", "warm", "load"])
def test_what_serves_is_counted_as_crashed_and_started_while_a_proof_runs(proof: str) -> None:
    world = deployed()
    under_way(world, "prove", proof)
    assert urgent(world) is None
    world.kill("blue")
    assert urgent(world) == Action("crashed", "blue", why="its process ended")
    world.step()
    assert world.task and world.task[0].proof == proof, "a short action is done beside it"
    assert urgent(world) == Action("start", "blue", release=OLD)
    world.step(left_after=1)
    assert world.task and world.task[0] == Action("start", "blue", release=OLD), "a long one in its place"
    assert world.settle().kind == "done" and world.state.release_of(world.state.active) == NEW


def test_the_tasks_own_server_is_its_own_business() -> None:
    world = deployed()
    under_way(world, "prove", "warm")
    world.kill("green")
    world.hung.add("green")
    assert urgent(world) is None
    world.step()
    assert world.state.refused == "its server does not answer"


def test_a_canary_that_is_watched_takes_over_at_once_from_what_died_beside_it() -> None:
    world = deployed(settings_of(strategy=CANARY))
    under_way(world, "analyse")
    world.kill("blue")
    world.step()
    assert urgent(world) == Action("switch", "green")
    world.step()
    assert world.state.active == "green" and world.serving() == {"green"}


def test_a_dead_router_is_started_and_shares_that_a_hand_moved_are_put_back_beside_it() -> None:
    world = deployed()
    under_way(world, "prove", "parity")
    world.router_up = False
    assert urgent(world) == Action("start_router")
    world.step()
    world.weights = {"blue": 40, "green": 60}
    world.proven.add(NEW)  # so that the world itself does not stop the hand
    assert urgent(world) == Action("step", "green", weight=0)
    world.step()
    assert world.task and world.task[0].proof == "parity" and world.weights == {"blue": 100, "green": 0}


@pytest.mark.parametrize("kind", ["start", "stop"])
def test_the_half_done_work_of_a_task_is_no_reason_to_interrupt_it(kind: str) -> None:
    world = deployed(settings_of(keep=False))
    action = under_way(world, kind)
    while world.task and world.task[0] == action:
        assert urgent(world) is None
        world.go_on(None, 1)


@pytest.mark.parametrize(
    ("event", "facts", "expected"),
    [
        ("desired", {"release": NEXT}, True),
        ("desired", {"release": OLD, "rollback": True}, True),
        ("aborted", {"why": "by hand"}, True),
        ("held", {"release": OLD}, True),
        ("paused", {}, False),
        ("promoted", {"release": NEW}, False),
        ("keyed", {"change": "added", "name": "x"}, False),
    ],
)
def test_who_wants_something_else_calls_it_off(event: str, facts: dict[str, object], expected: bool) -> None:
    world = deployed()
    under_way(world, "prove", "load")
    before: State = world.state
    world.note(event, **facts)  # type: ignore[arg-type]  # one of the kinds
    assert is_called_off(before, world.state) is expected
    world.step(left_after=1)
    assert world.settle().kind in ("done", "paused", "refused")
    assert not is_called_off(before, replace(before))


@pytest.mark.parametrize("slot", ["blue", "green"])
def test_a_wait_for_the_next_start_interrupts_nothing(slot: SlotName) -> None:
    world = deployed(settings_of(supervision={"backoff_seconds": 60}))
    under_way(world, "prove", "warm")
    for _ in range(2):
        world.note("crashed", "blue", release=OLD)
    world.servers.pop("blue")
    found = urgent(world)
    assert found is None or found.kind != "wait"


def test_what_comes_back_after_a_failed_swap_is_let_start() -> None:
    """Its slot is on record before its server is."""
    world = deployed()
    world.room = "swap"
    world.bad = {NEW: "smoke"}
    world.note("desired", release=NEW)
    while Action("start", "blue", release=OLD) not in world.log:
        world.step(left_after=2)
    found = world.state.slots["blue"]
    assert world.state.moves.swapping == "blue" and found and not found.servers
    assert urgent(world) is None
