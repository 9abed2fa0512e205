"""Probes beside the loop: a server that hangs keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from configs.slots import Server, SlotName
from infra.background import BackgroundTask
from serve.record.environment import Environment
from serve.record.facts import Started
from serve.record.state import State
from serve.watch.liveness import Liveness

Servers = dict[Server, Started]


@dataclass
class Prober:
    """`hung`: what the last probes found, of the servers that were `probed`: one that was started since is another."""

    liveness: Liveness = field(default_factory=Liveness)
    thread: BackgroundTask[frozenset[Server]] = field(default_factory=lambda: BackgroundTask(0.0))
    asked: Servers = field(default_factory=dict)
    probed: Servers = field(default_factory=dict)
    hung: frozenset[Server] = frozenset()

    def begin(self, env: Environment, state: State, slots: Collection[SlotName]) -> None:
        """The next probes, where supervision.interval_seconds have passed since the last."""
        self.thread.every_seconds = env.config.supervision.interval_seconds
        if self.thread.begin(lambda: self.liveness.hung(env, state, slots)):
            self.asked = servers(state)

    def wait(self) -> None:
        """For the probes that are under way; each has a time-out of its own."""
        self.thread.wait(None)

    def found(self, state: State) -> frozenset[Server]:
        result = self.thread.result()
        if result is not None:
            self.hung, self.probed = result, self.asked
        here = servers(state)
        return frozenset(one for one in self.hung if one in here and here[one] == self.probed.get(one))


def servers(state: State) -> Servers:
    return {
        (slot, number): one.process
        for slot, found in state.slots.items()
        if found
        for number, one in found.servers.items()
        if not one.crashed
    }
