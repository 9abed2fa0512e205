"""What is so now: the record's state, the environment's settings, and what is seen of the world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from configs.environment.config import DeployConfig
from configs.slots import SLOTS, Server, SlotName, other
from infra.boot import Moment
from serve.record.state import State

START = Moment(0.0)


@dataclass(frozen=True)
class Observed:
    """The world now: whether the router runs, the percent of new requests it gives each slot, which slots have a server
    that lives, which servers of theirs died all the same, which accept and never answer, and the moment."""

    router_running: bool
    weights: Mapping[SlotName, int]
    alive: frozenset[SlotName]
    hung: frozenset[Server] = frozenset()
    now: Moment = START
    died: frozenset[Server] = frozenset()

    @property
    def routed(self) -> SlotName | None:
        return next((slot for slot in SLOTS if self.weights.get(slot) == 100), None)


@dataclass(frozen=True)
class Situation:
    """All that a rule may ask. `active` serves; `target` is the slot of the candidate, the other one."""

    state: State
    config: DeployConfig
    observed: Observed

    @property
    def active(self) -> SlotName | None:
        return self.state.active

    @property
    def active_lives(self) -> bool:
        return self.state.active in self.observed.alive

    @property
    def target(self) -> SlotName:
        """Where nothing is active the router may still send to one slot: what starts there would be asked before it is
        proven."""
        if self.active:
            return other(self.active)
        return "green" if self.observed.weights.get("blue") else "blue"

    @property
    def desired(self) -> str | None:
        return self.state.wanted.desired

    @property
    def is_watched(self) -> bool:
        """Whether the candidate's present share was watched to its end."""
        return not self.state.moves.weight or self.state.moves.analysed == self.state.moves.weight

    @property
    def may_take_all(self) -> bool:
        wanted = self.state.wanted
        return self.config.promotion == "auto" or wanted.rollback or wanted.promoted == wanted.desired

    def runs(self, slot: SlotName, release: str | None) -> bool:
        found = self.state.slots[slot]
        return found is not None and found.release == release and slot in self.observed.alive

    def rests(self, slot: SlotName) -> bool:
        """Whether it lives and sleeps, or is on the way there or back."""
        found = self.state.slots[slot]
        return found is not None and found.rest is not None and slot in self.observed.alive

    def is_ready(self, slot: SlotName) -> bool:
        """Proven and awake, and a server of it answers."""
        found = self.state.slots[slot]
        if found is None or found.rest or not found.is_proven or slot not in self.observed.alive:
            return False
        gone = self.observed.hung | self.observed.died
        return any((slot, number) not in gone for number, one in found.servers.items() if not one.crashed)

    def crash_count(self, release: str | None) -> int:
        """Crashes of this release within the window; servers of a slot that die together are one."""
        window = self.config.supervision.window_seconds
        deaths = sum(one == release and self.observed.now.since(at) <= window for one, at in self.state.crashes)
        return math.ceil(deaths / self.config.slots.servers)

    def crashes_too_often(self, release: str | None) -> bool:
        return self.crash_count(release) >= self.config.supervision.max_crashes

    @property
    def restart_limit(self) -> str:
        return f"{self.config.supervision.max_crashes} crashes within {self.config.supervision.window_seconds} s"
