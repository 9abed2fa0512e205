"""What is so right now, for the planner: the router, the traffic that each slot gets, the servers that live."""

from __future__ import annotations

from configs.slots import Server
from infra.boot import now
from serve.plan.situation import Observed
from serve.record.environment import Environment
from serve.record.state import State


def observe(env: Environment, state: State, hung: frozenset[Server] = frozenset()) -> Observed:
    running = env.router.is_running()
    died = env.died(state)
    alive = frozenset(slot for slot, number in env.servers(state) if (slot, number) not in died)
    return Observed(running, env.router.weights() if running else {}, alive, hung, now(), died)
