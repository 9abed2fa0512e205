"""The watch over a release under traffic: at each share of a canary, and after the switch. A breach raises; a change of mind ends it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from configs.errors import RefusedError
from configs.rollout import Canary
from infra.router import SlotName
from infra.slot import is_alive
from serve.environment import Environment
from serve.receipt import receipt, since, write_receipt
from serve.state import State, other

LOOK_SECONDS = 0.25


def analyse(env: Environment, state: State, slot: SlotName) -> None:
    """Watches the candidate at its present share for the strategy's own time. Raises RefusedError on a breach."""
    strategy = env.config.strategy
    seconds = strategy.bake_seconds if isinstance(strategy, Canary) else 0
    env.tell(f"watch {slot} at {state.weight} % for {seconds} s")
    started = datetime.fromisoformat(state.step["at"])
    while elapsed(started) < seconds or env.record.state().paused:
        if has_changed(env, state):
            return
        check_traffic(env, state, slot, state.step["before"])
        time.sleep(LOOK_SECONDS)
    check_traffic(env, state, slot, state.step["before"])
    env.record.append("analysed", slot, weight=state.weight, **vars(since(env.router.traffic()[slot], state.step["before"][slot])))


def bake(env: Environment, state: State) -> None:
    """Watches the new slot under all of the traffic, and the old one until its streams have ended or the deadline has passed.

    Raises RefusedError on a breach. While an operator has paused, the watch goes on.
    """
    active, old, started = state.active, state.switch["from"], datetime.fromisoformat(state.switch["at"])
    assert active is not None
    env.tell(f"bake {active} for {env.config.bake_seconds} s")
    drain = 0.0
    while True:
        traffic, seconds = env.router.traffic(), elapsed(started)
        is_draining = bool(old and traffic[old].open and other(active) in env.alive(state))
        drain = seconds if is_draining else drain
        watching = seconds < env.config.bake_seconds or env.record.state().paused
        if watching:
            check_traffic(env, state, active, state.switch["before"])
        if has_changed(env, state):
            return
        if not watching and not (is_draining and seconds < env.config.drain_deadline_seconds):
            break
        time.sleep(LOOK_SECONDS)
    facts = receipt(state, env.config.strategy.kind, traffic, seconds, drain)
    write_receipt(env, state, facts)
    env.record.append("baked", active, **facts)


def elapsed(started: datetime) -> float:
    return (datetime.now(UTC) - started).total_seconds()


def has_changed(env: Environment, state: State) -> bool:
    """True once an operator, or a new pin, wants something else than what is being watched."""
    now = env.record.state()
    return (now.desired, now.refused, now.held) != (state.desired, state.refused, state.held)


def check_traffic(env: Environment, state: State, slot: SlotName, before: dict[str, Any]) -> None:
    """Raises RefusedError if the slot's server died or one of its requests failed since `before`."""
    process = env.process(state, slot)
    failed = since(env.router.traffic()[slot], before[slot]).failed
    if process is None or not is_alive(process) or failed:
        what = f"{failed} requests failed" if failed else "its server died"
        raise RefusedError(f"{state.desired}: under traffic {what}", hint=f"less {env.folder}/{slot}.log")
