"""A simulated machine for the planner: what each action does to it, one small step after the other, so that a kill may
fall between any two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from configs.environment.config import DeployConfig
from configs.slots import SLOTS, SlotName, other
from infra.boot import Moment
from serve.plan.action import Action, End
from serve.plan.interrupt import SHORT, is_called_off, more_urgent
from serve.plan.planner import plan
from serve.plan.situation import Observed
from serve.record.event import Event, Kind
from serve.record.fold import apply
from serve.record.state import State
from tests.support.simulated_machine import Machine

OLD, NEW, NEXT = ("old@sha256:" + "0" * 64, "new@sha256:" + "1" * 64, "next@sha256:" + "2" * 64)


def settings_of(keep: Any = True, promotion: Any = "auto", **facts: Any) -> DeployConfig:
    return DeployConfig.model_validate(
        {"name": "x", "model": "m", "keep_old_slot": keep, "promotion": promotion, "gate": None} | facts
    )


@dataclass
class World(Machine):
    """The events are all that survives a kill of the command.

    `bad` releases fail at the named proof, those in `breach` under traffic. `room`: for two servers, for one (swap),
    for one that is awake (sleep), or for a second adapter in the first (adapter). `now`: the true time, in seconds; the
    wall clock is `clock_ahead` of it. `task`: a long action that is under way, and what was so when it began.
    """

    kinds: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    breach: set[str] = field(default_factory=set)
    room: str = "surge"
    now: float = 0.0
    clock_ahead: float = 0.0
    boots: int = 1
    booted: float = 0.0
    log: list[Action | End] = field(default_factory=list)
    task: tuple[Action, State, Iterator[None]] | None = None

    def note(self, kind: Kind, slot: SlotName | None = None, **facts: object) -> None:
        when = {"at": self.moment.iso, "boot": self.moment.boot, "uptime": self.moment.uptime}
        self.state = apply(self.state, Event(**when, kind=kind, slot=slot, facts=facts))
        self.kinds.append(kind)

    @property
    def moment(self) -> Moment:
        return Moment(self.now + self.clock_ahead, f"boot {self.boots}", self.now - self.booted)

    def reboot(self, clock_ahead: float) -> None:
        """No process survives it; the new boot's clock may be anywhere."""
        self.boots, self.booted, self.clock_ahead = self.boots + 1, self.now, clock_ahead
        self.router_up = False
        for slot in SLOTS:
            self.kill(slot)

    def next(self) -> Action | End:
        return plan(self.state, self.config, self.observed())

    def observed(self) -> Observed:
        alive = frozenset(slot for slot in self.servers if self.has_process(slot))
        weights = self.weights if self.router_up else {}
        known = [(slot, number) for slot, found in self.state.slots.items() if found for number in found.servers]
        hung = frozenset(server for server in known if server[0] in self.hung)
        died = frozenset(server for server in known if server in self.down or server[0] not in self.servers)
        return Observed(self.router_up, dict(weights), alive, hung, self.moment, died)

    def step(self, *, killed_after: int | None = None, left_after: int | None = None) -> Action | End:
        """One look of the loop, as serve/switch/loop.py has it. `killed_after`: the command dies after so many of the
        action's small steps; `left_after`: so many, then a long one is still under way at the next look."""
        self.now += 1.0
        if self.task is None:
            return self.begin(self.next(), killed_after, left_after)
        action, begun, _ = self.task
        if is_called_off(begun, self.state):
            self.task = None
            return action
        urgent = more_urgent(action, self.state, self.config, self.observed())
        if urgent is None:
            return self.go_on(killed_after, left_after)
        if urgent.kind in SHORT:
            task, self.task = self.task, None
            self.begin(urgent, killed_after, None)
            self.task = None if killed_after else task
            return urgent
        self.task = None
        return self.begin(urgent, killed_after, left_after)

    def begin(self, action: Action | End, killed_after: int | None, left_after: int | None) -> Action | End:
        self.log.append(action)
        self.check(action)
        is_short = isinstance(action, End) or action.kind in {*SHORT, "wait"}
        self.task = action, self.state, self.small_steps(action, self.state)  # type: ignore[assignment]  # an End ends
        return self.go_on(killed_after, None if is_short else left_after)

    def go_on(self, killed_after: int | None, left_after: int | None) -> Action | End:
        assert self.task is not None
        action, _, steps = self.task
        for number, _ in enumerate(steps, 1):
            self.check_world()
            if number == left_after:
                return action
            if number == killed_after:
                break
        self.check_world()
        self.task = None
        return action

    def small_steps(self, action: Action | End, state: State) -> Iterator[None]:
        """As serve/switch/effects.py does them; each `yield` is a moment at which a kill may come."""
        slot = action.slot
        yield
        if isinstance(action, End):
            return
        if action.kind == "start_router":
            self.router_up, self.paused = True, bool(state.moves.swapping)
        elif action.kind == "wait":
            self.now += action.seconds
        elif slot is None:
            return
        elif action.kind == "start":
            yield from self.start(slot, action.server, str(action.release))
        elif action.kind == "prove":
            yield from self.prove(slot, action.server, str(action.proof), state)
        elif action.kind == "measure":
            self.note("planned", slot, mode=self.room if state.active in self.servers else "surge")
        elif action.kind == "step":
            # both slots
            self.weights = {slot: action.weight or 0, other(slot): 100 - (action.weight or 0)}  # type: ignore[misc]
            yield
            self.note("stepped", slot, weight=action.weight, before={})
        elif action.kind in ("analyse", "bake"):
            self.watch(action.kind, slot, state)
        elif action.kind == "queue":
            self.note("queued", slot, release=state.release_of(slot), before={})
        elif action.kind == "switch":
            yield from self.switch(slot)
        elif action.kind == "stop":
            self.paused = self.paused or (slot == state.moves.swapping and state.refused is None)
            yield
            self.end(slot)
            yield
            self.note("stopped", slot)
        elif action.kind == "sleep":
            yield from self.sleep(slot)
        elif action.kind == "wake":
            yield from self.wake(slot, state)
        elif action.kind == "crashed":
            self.crash_server(slot, action.server)
            yield
            self.note("crashed", slot, release=state.release_of(slot), server=action.server)
        elif action.kind == "fall_back":
            self.note("desired", release=action.release, rollback=True, failed=state.release_of(slot))
        elif action.kind == "page":
            self.note("paged", slot, why=action.why)
        elif action.kind == "refuse":
            self.note("refused", slot, why=action.why)

    def sleep(self, slot: SlotName) -> Iterator[None]:
        self.paused = True
        yield
        self.note("sleeping", slot)
        yield
        if slot in self.hung or slot not in self.servers:
            self.end(slot)
            self.note("stopped", slot)
            return
        self.asleep.add(slot)
        yield
        self.note("slept", slot)

    def wake(self, slot: SlotName, state: State) -> Iterator[None]:
        self.note("waking", slot)
        yield
        if slot not in self.servers or slot in self.hung:
            self.fail(slot, 0, "its server does not wake", state, wakes=True)
            return
        self.asleep.discard(slot)
        yield
        self.note("woken", slot)

    def start(self, slot: SlotName, number: int, release: str) -> Iterator[None]:
        if self.joins(Action("start", slot, number, release)):
            self.note("starting", slot, release=release, server=number)
            yield
            self.down.discard((slot, number))
            yield
            self.note("started", slot, pid=1, server=number, **self.place)
            return
        beside = self.state.slots[other(slot)]
        joins = (
            self.state.capacity == "adapter"
            and self.has_process(other(slot))
            and beside is not None
            and "healthy" in beside.proofs
        )
        self.note("starting", slot, release=release, servers=self.config.slots.servers)
        yield
        self.end(slot)
        yield
        self.servers[slot], self.joined = release, joins
        yield
        self.note("started", slot, pid=1, **self.place)

    @property
    def place(self) -> dict[str, object]:
        return {"place": {"gpus": ["GPU-0"], "utilization": 0.9, "sleeps": True}} if self.room == "sleep" else {}

    def prove(self, slot: SlotName, number: int, proof: str, state: State) -> Iterator[None]:
        release = str(state.release_of(slot))
        if slot not in self.servers or slot in self.hung or (slot, number) in self.down:
            self.fail(slot, number, "its server does not answer", state)
        elif self.bad.get(release) == proof:
            self.fail(slot, number, f"{proof} is bad", state)
        else:
            yield
            self.note("proven", slot, proof=proof, server=number)
            found = self.state.slots[slot]
            if found and found.is_proven:
                self.proven.add(release)

    def fail(self, slot: SlotName, number: int, why: str, state: State, *, wakes: bool = False) -> None:
        """As serve/switch/failure.py answers a failed proof, or a server that does not wake."""
        if slot in (state.active, state.moves.swapping) or (wakes and state.release_of(slot) != state.wanted.desired):
            found = state.slots[slot]
            for one in sorted(found.servers) if wakes and found else [number]:
                self.crash_server(slot, one)
                self.note("crashed", slot, release=state.release_of(slot), server=one)
        else:
            self.note("refused", why=why)

    def switch(self, slot: SlotName) -> Iterator[None]:
        before, first = self.state.moves.swapping, self.state.active is None and self.state.moves.swapping is None
        self.note("switching", slot)
        yield
        self.weights = {slot: 100, other(slot): 0}  # type: ignore[misc]  # both slots
        yield
        self.paused = False
        yield
        if slot in self.servers:
            self.note(
                "switched",
                slot,
                before={},
                from_release=None,
                **{"from": None if first and not before else other(slot)},
            )

    def watch(self, kind: str, slot: SlotName, state: State) -> None:
        standby = other(slot)
        if state.release_of(slot) not in self.breach and slot in self.servers:
            self.note("analysed" if kind == "analyse" else "baked", slot)
        elif kind == "bake" and (found := state.slots[standby]) and found.is_proven and standby in self.servers:
            self.note("desired", release=found.release, rollback=True, failed=state.wanted.desired)
        elif kind == "bake" and state.last_good:
            self.note("desired", release=state.last_good, rollback=True, failed=state.wanted.desired)
        else:
            self.note("refused", why="a breach under traffic")

    def check(self, action: Action | End) -> None:
        """None may end the only server that answers, but a declared swap; none may let traffic to the unproven, nor to
        what sleeps; and nothing starts or wakes beside what a swap is to take the memory of."""
        joins = isinstance(action, Action) and self.joins(action)
        if action.kind in ("stop", "start") and not joins:
            assert (
                action.slot not in self.serving()
                or action.slot == self.state.moves.swapping
                or self.weights[action.slot] < 100
            ), f"{action} ends what serves"
        if action.kind in ("start", "wake") and self.state.moves.swapping and action.slot:
            beside = other(action.slot)
            assert beside not in self.servers or beside in self.asleep, f"{action} beside {beside}, which is awake"
        if action.kind == "sleep":
            assert action.slot == self.state.moves.swapping, f"{action} of what is not swapped"
        if action.kind == "switch":
            assert action.slot not in self.asleep, f"{action}, which sleeps"
        if isinstance(action, Action) and action.kind in ("switch", "step") and action.slot and action.weight != 0:
            release = self.state.release_of(action.slot)
            assert release in self.proven, f"{action} lets traffic to {release}, never proven"

    def settle(self, most: int = 120) -> End:
        """Until nothing is left to do: it always ends."""
        for _ in range(most):
            action = self.step()
            if isinstance(action, End):
                return action
        raise AssertionError(f"no end: {self.log[-12:]}")
