"""Servers and a router that the planner's world moves: who runs, who hangs, who answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.environment.config import DeployConfig
from configs.slots import SLOTS, Server, SlotName, other
from serve.plan.action import Action
from serve.record.state import State


@dataclass
class Machine:
    """`servers` runs a release in each slot; `hung` slots do not answer, `down` are single servers of a slot that died;
    `joined`: both slots live in one server, which dies as one; `asleep`: slots whose servers gave their memory
    back; `proven`: releases that showed everything."""

    config: DeployConfig
    state: State = field(default_factory=State)
    router_up: bool = False
    weights: dict[SlotName, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    paused: bool = False
    servers: dict[SlotName, str] = field(default_factory=dict)
    hung: set[SlotName] = field(default_factory=set)
    down: set[Server] = field(default_factory=set)
    joined: bool = False
    asleep: set[SlotName] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)

    def has_process(self, slot: SlotName) -> bool:
        found = self.state.slots[slot]
        return found is not None and bool(found.servers) and not found.crashed and slot in self.servers

    def end(self, slot: SlotName) -> None:
        """The slot's server, or only its adapter."""
        self.servers.pop(slot, None)
        self.hung.discard(slot)
        self.asleep.discard(slot)
        self.down = {server for server in self.down if server[0] != slot}
        self.joined = False

    def kill(self, slot: SlotName) -> None:
        """Its process, whoever lives in it."""
        for one in SLOTS if self.joined else (slot,):
            self.end(one)

    def kill_one(self, slot: SlotName, number: int) -> None:
        """One server of several; with its last one the slot is gone."""
        found = self.state.slots[slot]
        self.down.add((slot, number))
        numbers = {one for one, server in found.servers.items() if not server.crashed} if found else set()
        if numbers <= {one for name, one in self.down if name == slot}:
            self.kill(slot)

    def crash_server(self, slot: SlotName, number: int) -> None:
        if self.config.slots.servers > 1 and slot in self.servers and slot not in self.hung:
            self.kill_one(slot, number)
        else:
            self.crash(slot)

    def crash(self, slot: SlotName) -> None:
        """As serve/switch/effects.py: of what both slots live in the other one may still answer."""
        if self.joined and other(slot) in self.servers and other(slot) not in self.hung:
            self.end(slot)
        else:
            self.kill(slot)

    def answering(self) -> set[SlotName]:
        """Slots that answer new requests now, rightly or not."""
        return {
            slot
            for slot, share in self.weights.items()
            if self.router_up
            and not self.paused
            and share
            and slot in self.servers
            and slot not in self.hung | self.asleep
        }

    def serving(self) -> set[SlotName]:
        """Those of them that were seen healthy: an orphan of a killed start may not even have come up."""
        known = {
            slot
            for slot, found in self.state.slots.items()
            if found
            and any(
                "healthy" in one.proofs and not one.crashed and (slot, number) not in self.down
                for number, one in found.servers.items()
            )
        }
        return self.answering() & known

    def check_world(self) -> None:
        """Never two at full weight; never a share for a digest that was not proven."""
        assert sum(self.weights.values()) in (0, 100)
        for slot in self.answering():
            assert self.servers[slot] in self.proven, f"{slot} answers from {self.servers[slot]}, never proven"

    def joins(self, action: Action) -> bool:
        """Whether a server is started beside its slot's others."""
        slot = action.slot
        is_same = slot is not None and self.state.release_of(slot) == action.release
        return action.kind == "start" and slot is not None and is_same and self.has_process(slot)
