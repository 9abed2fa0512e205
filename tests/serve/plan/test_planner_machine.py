"""The planner as a state machine: people change their minds, everything dies at any moment, and four things hold at
every step.

At least one healthy slot serves whenever there was one (a declared swap excepted); never two releases at full weight;
never traffic to a digest that was not proven; it always ends. TUNEGATE_MACHINE_EXAMPLES sets how many runs of 50 steps
are tried (20 here; 400 make 20,000 steps).
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from configs.slots import SLOTS, SlotName, other
from serve.plan.action import Action
from serve.record.event import PROOF
from tests.support.planner_world import NEW, NEXT, OLD, World, settings_of

pytestmark = pytest.mark.unit
EXAMPLES = int(os.environ.get("TUNEGATE_MACHINE_EXAMPLES", "20"))
STEPS = 50
STRATEGIES: list[dict[str, Any]] = [
    {"kind": "blue-green"},
    {"kind": "canary", "steps": [5, 25, 100]},
    {"kind": "shadow", "share": 10, "seconds": 5},
]
ROOMS = ["surge", "swap", "sleep", "adapter"]
RELEASES = st.sampled_from([OLD, NEW, NEXT])
COUNTED = {"steps": 0}
LONGEST_WAIT = 1.0  # backoff_seconds: at the third crash nobody waits, a person is called


class Deployment(RuleBasedStateMachine):
    """Rules are a person's requests, the command's next step, and faults; the world asserts safety within each step."""

    world: World

    @initialize(
        room=st.sampled_from(ROOMS),
        keep=st.booleans(),
        promotion=st.sampled_from(["auto", "manual"]),
        servers=st.integers(1, 3),
        begun=st.booleans(),
        data=st.data(),
    )
    def begin(self, room: str, keep: bool, promotion: str, servers: int, begun: bool, data: st.DataObject) -> None:
        """On a machine of nothing, or one where a release serves already."""
        servers = 1 if room == "adapter" else servers
        capacity = "adapter" if room == "adapter" else "auto"
        strategy = data.draw(
            st.sampled_from([one for one in STRATEGIES if room != "adapter" or one["kind"] != "canary"])
        )
        facts = {"strategy": strategy, "capacity": capacity, "slots": {"servers": servers}}
        self.world = World(settings_of(keep, promotion, **facts), room=room)
        if begun:
            self.world.note("desired", release=OLD)
            self.world.note("promoted", release=OLD)
            assert self.world.settle().kind == "done"

    @rule(release=RELEASES)
    def want(self, release: str) -> None:
        if not self.world.state.wanted.held:
            self.world.note("desired", release=release)

    @rule()
    def work(self) -> None:
        self.step()

    @rule(times=st.integers(2, 12))
    def work_on(self, times: int) -> None:
        for _ in range(times):
            self.step()

    @rule(after=st.integers(1, 4))
    def look_while_something_long_runs(self, after: int) -> None:
        """Whatever happens next happens beside it."""
        self.step(left_after=after)

    @rule(after=st.integers(1, 4))
    def kill_the_agent_in_its_step(self, after: int) -> None:
        self.step(after)

    @rule(slot=st.sampled_from(SLOTS))
    def kill_a_server(self, slot: str) -> None:
        self.world.kill(slot)  # type: ignore[arg-type]  # one of the two slots

    @rule(slot=st.sampled_from(SLOTS), number=st.integers(0, 2))
    def kill_one_server_of_several(self, slot: SlotName, number: int) -> None:
        found = self.world.state.slots[slot]
        if found and number in found.servers and not found.servers[number].crashed and slot in self.world.servers:
            self.world.kill_one(slot, number)

    @rule(slot=st.sampled_from(SLOTS), alone=st.booleans())
    def hang_a_server(self, slot: str, alone: bool) -> None:
        """Where both slots live in it: one adapter alone, or all of it."""
        hung = SLOTS if self.world.joined and not alone else (slot,)
        self.world.hung |= self.world.servers.keys() & set(hung)

    @rule()
    def kill_the_router(self) -> None:
        self.world.router_up = False

    @rule(release=RELEASES, proof=st.sampled_from([*PROOF, "shadow", ""]))
    def turn_bad(self, release: str, proof: str) -> None:
        """From now on a release fails a proof, or no longer does."""
        self.world.bad = {release: proof} if proof else {}

    @rule(release=RELEASES, broken=st.booleans())
    def turn_bad_under_traffic(self, release: str, broken: bool) -> None:
        self.world.breach = {release} if broken else set()

    @rule()
    def pause(self) -> None:
        self.world.note("paused")

    @rule()
    def resume(self) -> None:
        self.world.note("resumed")

    @precondition(lambda self: self.world.state.wanted.desired is not None and self.world.state.refused is None)
    @rule()
    def abort(self) -> None:
        self.world.note("aborted", why="aborted by the operator")

    @precondition(lambda self: self.world.state.active is not None)
    @rule()
    def hold(self) -> None:
        self.world.note("held", release=self.world.state.release_of(self.world.state.active))

    @precondition(lambda self: self.world.state.wanted.desired is not None)
    @rule()
    def promote(self) -> None:
        self.world.note("promoted", release=self.world.state.wanted.desired)

    @rule()
    def roll_back(self) -> None:
        state = self.world.state
        standby = state.slots[other(state.active)] if state.active else None
        if standby and state.active and standby.is_proven and other(state.active) in self.world.servers:
            self.world.note("desired", release=standby.release, rollback=True)

    @rule(seconds=st.sampled_from([1.0, 30.0, 700.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(seconds=st.sampled_from([-3600.0, -1.0, 1.0, 3600.0]))
    def step_the_clock(self, seconds: float) -> None:
        """It changes no plan: neither what is next nor how long it waits. Of a crash before the last reboot only the
        wall clock knows when it was."""
        before, boot = self.world.next(), self.world.moment.boot
        self.world.clock_ahead += seconds
        assert self.world.next() == before or any(at.boot != boot for _, at in self.world.state.crashes)

    @rule(clock_ahead=st.sampled_from([-3600.0, 0.0, 3600.0]))
    def reboot(self, clock_ahead: float) -> None:
        """The machine's clock is wrong until somebody sets it."""
        self.world.reboot(clock_ahead)

    def step(self, killed_after: int | None = None, left_after: int | None = None) -> None:
        """Where a slot answered before, one answers after: only a swap, and a person's `queued` one at that, may do
        without."""
        before = self.world.serving()
        self.world.step(killed_after=killed_after, left_after=left_after)
        COUNTED["steps"] += 1
        waits = self.world.log[-1]
        assert not isinstance(waits, Action) or waits.seconds <= LONGEST_WAIT, waits
        assert not before or self.world.serving() or self.world.state.moves.swapping, (
            f"nothing serves after {self.world.log[-1]}"
        )

    @invariant()
    def no_two_at_full_weight_and_nothing_unproven(self) -> None:
        if hasattr(self, "world"):
            self.world.check_world()

    def teardown(self) -> None:
        """Once the faults end, the plan ends too; and it ends with a healthy server where any good release was ever
        wanted."""
        if not hasattr(self, "world"):
            return
        self.world.bad, self.world.breach = {}, set()
        end = self.world.settle()
        state = self.world.state
        if end.kind == "done" and state.wanted.desired:
            assert self.world.serving() == {state.active} and state.release_of(state.active) == state.wanted.desired
        if end.kind != "paged" and state.active:
            assert self.world.serving()
        assert not self.world.paused or state.moves.swapping or not self.world.router_up


Deployment.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestDeployment(Deployment.TestCase):  # type: ignore[name-defined,misc,valid-type]  # made by hypothesis
    """Run by pytest."""


def test_the_machine_took_its_steps() -> None:
    """Runs after it: the benchmark reads this line."""
    print(f"planner steps: {COUNTED['steps']}")
    assert COUNTED["steps"] >= EXAMPLES
