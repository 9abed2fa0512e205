"""The watch over a release under traffic: at each share of a canary, and after the switch. A breach raises; a change of mind ends it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from configs.environment.strategy import Canary
from configs.errors import RefusedError
from configs.slots import SlotName, other
from infra.vllm.server import is_alive
from serve.record.environment import Environment
from serve.record.receipt import receipt, since, write_receipt
from serve.record.state import State
from serve.watch.liveness import Liveness
from serve.watch.watcher import Watcher, baseline

LOOK_SECONDS = 0.25


def analyse(env: Environment, state: State, slot: SlotName) -> None:
    """Watches the candidate at its present share for the strategy's own time, against what serves beside it. Raises RefusedError on a breach."""
    strategy = env.config.strategy
    seconds = strategy.bake_seconds if isinstance(strategy, Canary) else 0
    env.tell(f"watch {slot} at {state.weight} % for {seconds} s")
    started, before = datetime.fromisoformat(state.step["at"]), state.step["before"]
    watcher = Watcher(env, slot, baseline(env, other(slot)), seconds)
    liveness, last = Liveness(), False
    while not last:
        liveness.check(env, state, slot)
        last = is_over(env, started, seconds)
        check_traffic(env, state, slot, before, watcher, last=last)
        if has_changed(env, state):
            return
        if not last:
            time.sleep(LOOK_SECONDS)
    counted = since(env.router.traffic()[slot], before[slot])
    env.record.append("analysed", slot, weight=state.weight, requests=counted.total, failed=counted.failed, watch=watcher.receipt())


def bake(env: Environment, state: State) -> None:
    """Watches the new slot under all of the traffic, and the old one until its streams have ended or the deadline has passed.

    Raises RefusedError on a breach. While an operator has paused, the watch goes on.
    """
    active, old, started = state.active, state.switch["from"], datetime.fromisoformat(state.switch["at"])
    assert active is not None
    env.tell(f"bake {active} for {env.config.bake_seconds} s")
    watcher = Watcher(env, active, baseline(env, old) if old else None)
    liveness, drain, watched, last = Liveness(), 0.0, False, False

    def close(**more: Any) -> dict[str, Any]:
        facts = receipt(state, env.config.strategy.kind, env.router.traffic(), elapsed(started), drain) | {"watch": watcher.receipt()} | more
        write_receipt(env, state, facts)
        return facts

    while not last:
        is_draining = bool(old and old in env.alive(state) and env.router.traffic()[old].open)
        drain = elapsed(started) if is_draining else drain
        is_baked = is_over(env, started, env.config.bake_seconds)
        try:
            liveness.check(env, state, active)
            if not watched:
                check_traffic(env, state, active, state.switch["before"], watcher, last=is_baked)
        except RefusedError as error:
            close(breach=error.message)
            raise
        watched = is_baked
        if has_changed(env, state):
            return
        last = is_baked and not (is_draining and elapsed(started) < env.config.drain_deadline_seconds)
        if not last:
            time.sleep(LOOK_SECONDS)
    env.record.append("baked", active, **close())


def elapsed(started: datetime) -> float:
    return (datetime.now(UTC) - started).total_seconds()


def is_over(env: Environment, started: datetime, seconds: float) -> bool:
    """Not while an operator has paused."""
    return elapsed(started) >= seconds and not env.record.state().paused


def has_changed(env: Environment, state: State) -> bool:
    """True once an operator, or a new pin, wants something else than what is being watched."""
    now = env.record.state()
    return (now.desired, now.refused, now.held) != (state.desired, state.refused, state.held)


def check_traffic(env: Environment, state: State, slot: SlotName, before: dict[str, Any], watcher: Watcher, *, last: bool) -> None:
    """Raises RefusedError if the slot's server died, more of its requests failed since `before` than are allowed, or it is worse than what served."""
    process, allowed = env.process(state, slot), env.config.watch.failures_allowed
    failed = since(env.router.traffic()[slot], before[slot]).failed
    if process is None or not is_alive(process):
        raise RefusedError(f"{state.desired}: under traffic its server died", hint=f"less {env.folder}/{slot}.log")
    breaches = [f"{failed} requests failed"] if allowed is not None and failed > allowed else watcher.check(last=last)
    if breaches:
        raise RefusedError(f"{state.desired}: under traffic {'; '.join(breaches)}", hint=f"less {env.folder}/{slot}.log")
