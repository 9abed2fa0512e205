"""Servers and a router that the planner's world moves: who runs, who hangs, who answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.environment.config import DeployConfig
from configs.slots import SLOTS, Server, SlotName, other
from serve.record.state import State


@dataclass
class Machine:
    """`servers` runs a release in each slot; `hung` slots do not answer, `down` are single servers of a slot that died;
    `joined`: both slots live in one server, which dies as one."""

    config: DeployConfig
    state: State = field(default_factory=State)
    router_up: bool = False
    weights: dict[SlotName, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    paused: bool = False
    servers: dict[SlotName, str] = field(default_factory=dict)
    hung: set[SlotName] = field(default_factory=set)
    down: set[Server] = field(default_factory=set)
    joined: bool = False

    def has_process(self, slot: SlotName) -> bool:
        found = self.state.slots[slot]
        return found is not None and bool(found.servers) and not found.crashed and slot in self.servers

    def end(self, slot: SlotName) -> None:
        """The slot's server, or only its adapter."""
        self.servers.pop(slot, None)
        self.hung.discard(slot)
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
            if self.router_up and not self.paused and share and slot in self.servers and slot not in self.hung
        }
