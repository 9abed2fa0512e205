"""The planner against a simulated world that kills the command, the servers and the router at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.deploy import DeployConfig
from infra.router import SLOTS, SlotName
from serve.planner import Action, Observed, plan
from serve.record import PROOF, Event, Kind, State, fold, other

pytestmark = pytest.mark.unit
OLD, NEW = "old@sha256:" + "0" * 64, "new@sha256:" + "1" * 64


def settings_of(keep: bool = True, promotion: str = "auto") -> DeployConfig:
    return DeployConfig.model_validate({"name": "x", "model": "m", "keep_old_slot": keep, "promotion": promotion, "gate": None})


@dataclass
class World:
    """What a machine would do with each action; the events are all that survives a kill."""

    config: DeployConfig
    events: list[Event] = field(default_factory=list)
    door: bool = False
    routed: SlotName | None = None
    alive: set[SlotName] = field(default_factory=set)
    bad: frozenset[str] = frozenset()
    log: list[Action] = field(default_factory=list)

    def note(self, kind: Kind, slot: SlotName | None = None, **facts: object) -> None:
        self.events.append(Event(at="2026-11-24T00:00:00+00:00", kind=kind, slot=slot, facts=facts))

    @property
    def state(self) -> State:
        return fold(self.events)

    def next(self) -> Action:
        return plan(self.state, self.config, Observed(self.door, self.routed if self.door else None, frozenset(self.alive)))

    def step(self, *, killed: bool = False) -> Action:
        """`killed`: the command dies after the intent (and half of the effect), before the outcome is recorded."""
        action, state = self.next(), self.state
        self.check(action, state)
        self.log.append(action)
        slot = action.slot
        if action.kind == "open_door":
            self.door = True
        elif action.kind == "start" and slot:
            self.note("starting", slot, release=action.release)
            self.alive.discard(slot)
            if not killed:
                self.alive.add(slot)
                self.note("started", slot, pid=1)
        elif action.kind == "prove" and slot and not killed:
            if state.release_of(slot) in self.bad and action.proof == "parity":
                self.note("refused", why="parity")
            else:
                self.note("proven", slot, proof=action.proof)
        elif action.kind == "switch" and slot:
            self.note("switching", slot)
            self.routed = slot
            if not killed:
                self.note("switched", slot, **{"from": other(slot)})
        elif action.kind == "bake" and slot and not killed:
            self.note("baked", slot)
        elif action.kind == "stop" and slot:
            self.alive.discard(slot)
            if not killed:
                self.note("stopped", slot)
        return action

    def check(self, action: Action, state: State) -> None:
        serving = self.routed if self.door and self.routed in self.alive else None
        if action.kind in ("stop", "start"):
            assert action.slot != serving, f"{action} would end what serves"
        if action.kind == "switch" and action.slot != state.active and action.slot != self.routed:
            found = state.slots[action.slot] if action.slot else None
            assert found and found.proofs.issuperset(PROOF), f"{action} without proof"

    def settle(self, most: int = 40) -> Action:
        for _ in range(most):
            action = self.step()
            if action.kind in ("done", "refused", "await_promotion"):
                return action
        raise AssertionError(f"no end: {self.log[-8:]}")


def deployed(keep: bool = True) -> World:
    world = World(settings_of(keep))
    world.note("desired", release=OLD)
    assert world.settle().kind == "done"
    world.log.clear()
    return world


def test_a_first_deployment_proves_everything_before_it_switches() -> None:
    world = World(settings_of())
    world.note("desired", release=OLD)
    world.settle()
    kinds = [action.proof or action.kind for action in world.log]
    assert kinds == ["open_door", "start", *PROOF, "switch", "bake", "done"]


def test_a_second_deployment_leaves_the_old_slot_warm() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    assert world.routed == "green" and world.alive == {"blue", "green"}


def test_the_old_slot_is_retired_after_the_bake_where_it_is_not_kept() -> None:
    world = deployed(keep=False)
    world.note("desired", release=NEW)
    world.settle()
    kinds = [action.kind for action in world.log]
    assert kinds.index("bake") < kinds.index("stop") and world.alive == {"green"}


def test_a_refused_release_is_cleared_away_and_the_old_one_serves_on() -> None:
    world = deployed()
    world.bad = frozenset({NEW})
    world.note("desired", release=NEW)
    assert world.settle().kind == "refused"
    assert world.routed == "blue" and world.alive == {"blue"} and world.state.release_of("blue") == OLD


def test_a_rollback_switches_at_once_and_repeats_no_proof() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    world.log.clear()
    world.note("desired", release=OLD, rollback=True)
    world.settle()
    assert [action.kind for action in world.log] == ["switch", "done"] and world.routed == "blue"


def test_a_failed_release_is_retired_after_the_rollback() -> None:
    world = deployed()
    world.note("desired", release=NEW)
    world.settle()
    world.note("desired", release=OLD, rollback=True, failed=NEW)
    world.settle()
    assert world.alive == {"blue"} and world.routed == "blue"


def test_manual_promotion_waits_with_the_proven_slot_up() -> None:
    world = World(settings_of(promotion="manual"))
    world.note("desired", release=OLD)
    assert world.settle().kind == "await_promotion" and world.routed is None and world.alive == {"blue"}
    world.note("promoted", release=OLD)
    assert world.settle().kind == "done" and world.routed == "blue"


def test_a_dead_server_hands_over_to_its_proven_heir_and_is_started_again_without_one() -> None:
    world = deployed()
    world.alive.clear()
    assert world.next() == Action("start", "blue", release=OLD)
    world.settle()
    world.note("desired", release=NEW)
    world.settle()
    world.alive.discard("green")
    first = world.next()
    assert first == Action("prove", "blue", proof="warm") or first.kind in ("switch", "start")


def test_a_router_that_forgot_is_told_again() -> None:
    world = deployed()
    world.routed = None
    assert world.next() == Action("switch", "blue")


FAULTS = st.lists(st.sampled_from(["none", "none", "kill", "router", "blue", "green", "both"]), max_size=40)


@settings(max_examples=400, deadline=None)
@given(FAULTS, st.booleans(), st.booleans())
def test_whatever_dies_the_next_command_finishes_the_job(faults: list[str], keep: bool, bad: bool) -> None:
    """Safety at each step is asserted by the world; liveness here: once faults end, the right release serves."""
    world = deployed(keep)
    world.bad = frozenset({NEW}) if bad else frozenset()
    world.note("desired", release=NEW)
    for fault in faults:
        if fault == "router":
            world.door = False
        elif fault in SLOTS:
            world.alive.discard(fault)  # type: ignore[arg-type]  # narrowed by the line above
        elif fault == "both":
            world.alive.clear()
        world.step(killed=fault == "kill")
    end = world.settle()
    active = world.state.active
    assert active is not None and world.routed == active and active in world.alive
    assert (end.kind, world.state.release_of(active)) == (("refused", OLD) if bad else ("done", NEW))


@given(st.lists(st.sampled_from(["start", "prove", "kill"]), max_size=5))
def test_the_plan_depends_on_nothing_but_its_inputs(steps: list[str]) -> None:
    world = deployed()
    world.note("desired", release=NEW)
    for step in steps:
        world.step(killed=step == "kill")
    assert world.next() == world.next()
