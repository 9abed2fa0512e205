"""Deploy, roll back, promote, look, stop: plan one action, do it, record it, until the desired release serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from configs.errors import InputError, OutsideError, RefusedError, TunegateError
from configs.verdict import Verdict
from infra.artifacts import find
from infra.router import SLOTS, SlotName
from infra.slot import is_alive, reap_orphan, stop_slot
from serve.effects import KILL_SECONDS, Environment, perform, receipt, wait_for_streams
from serve.planner import plan
from serve.record import PROOF, State, other
from serve.watch import Watcher, baseline

MOST_ACTIONS = 100


def deploy(env: Environment, reference: str) -> dict[str, Any]:
    """Reconciles the environment to `reference`; killed at any moment, the next call goes on from the record.

    Raises RefusedError where the bytes, the verdict, a proof or the bake say no: what served serves on.
    """
    check_release(reference)
    with locked(env):
        state = env.record.state()
        if state.desired != reference or state.refused is not None or state.rollback:
            env.record.append("desired", release=reference)
        return reconcile(env)


def check_release(reference: str) -> None:
    """The very bytes, and a passing verdict on them."""
    path = find(reference) / "gate" / "verdict.json"
    if not path.exists():
        raise RefusedError(f"{reference}: no verdict beside it", hint="tunegate gate CONFIG")
    verdict = Verdict.read(path)
    if verdict.release != reference or verdict.outcome != "pass":
        raise RefusedError(f"{reference}: the verdict is {verdict.outcome} on {verdict.release}, expected pass on this release", hint="tunegate gate CONFIG")


def rollback(env: Environment) -> dict[str, Any]:
    """Back to the warm other slot at once: no proof is repeated, nothing starts. Raises RefusedError where none is warm."""
    with locked(env):
        state = env.record.state()
        heir = other(state.active) if state.active else None
        slot = state.slots[heir] if heir else None
        if heir is None or slot is None or heir not in env.alive(state) or not slot.proofs.issuperset(PROOF):
            raise RefusedError("no proven release is warm in the other slot", hint=f"tunegate deploy {env.config.name} RELEASE   (tunegate releases list)")
        env.record.append("desired", release=slot.release, rollback=True)
        return reconcile(env)


def promote(env: Environment) -> dict[str, Any]:
    """Lets a proven release take the traffic, where the environment's promotion is manual."""
    with locked(env):
        state = env.record.state()
        if state.desired is None or state.refused is not None or state.release_of(state.active) == state.desired:
            raise RefusedError("no proven release is waiting", hint=f"tunegate status {env.config.name}")
        env.record.append("promoted", release=state.desired)
        return reconcile(env)


def reconcile(env: Environment) -> dict[str, Any]:
    """The loop. A failure of the desired release is recorded, cleared away, and raised when what served is seen to serve."""
    failure: TunegateError | None = None
    for _ in range(MOST_ACTIONS):
        state = env.record.state()
        action = plan(state, env.config, env.observe(state))
        if action.kind == "refused" or (action.kind == "done" and failure):
            raise failure or RefusedError(f"{state.desired}: {state.refused}", hint=f"tunegate status {env.config.name}")
        if action.kind in ("done", "await_promotion"):
            return outcome(env, state, action.kind)
        try:
            bake(env, state) if action.kind == "bake" else perform(action, env, state)
        except TunegateError as error:
            if action.slot is None or (action.slot == state.active and action.kind != "bake"):
                raise
            failure = error
            give_up(env, state, error, baking=action.kind == "bake")
    raise OutsideError(f"{MOST_ACTIONS} actions did not reach the desired state", hint=f"tunegate status {env.config.name}")


def give_up(env: Environment, state: State, error: TunegateError, *, baking: bool) -> None:
    """A failed bake goes back to the warm old slot; before the switch nothing had moved."""
    env.tell(f"refused: {error.message}")
    old = other(state.active) if state.active else None
    heir = state.slots[old] if old else None
    if baking and old in env.alive(state) and heir and heir.proofs.issuperset(PROOF):
        env.record.append("desired", release=heir.release, rollback=True, failed=state.desired, why=error.message)
    else:
        env.record.append("refused", why=error.message)


def bake(env: Environment, state: State) -> None:
    """Watches the new slot under traffic, and the old one until its streams have ended or the deadline has passed."""
    active = state.active
    assert active is not None
    process, started = env.process(state, active), datetime.fromisoformat(state.switch["at"])
    before = state.switch["before"][active]

    def elapsed() -> float:
        return (datetime.now(UTC) - started).total_seconds()

    old: SlotName | None = state.switch["from"]
    watcher, allowed = Watcher(env, active, baseline(env, old) if old else None), env.config.watch.failures_allowed
    env.tell(f"bake {active} for {env.config.bake_seconds} s")
    last = False
    while not last:
        last = elapsed() >= env.config.bake_seconds  # the whole window is judged once more at its end
        failed = env.router.traffic()[active].failed - before["failed"]
        if process is None or not is_alive(process):
            raise RefusedError(f"{state.desired}: under traffic its server died", hint=f"less {env.folder}/{active}.log")
        breaches = [f"{failed} requests failed"] if allowed is not None and failed > allowed else watcher.check(last=last)
        if breaches:
            raise RefusedError(f"{state.desired}: under traffic {'; '.join(breaches)}", hint=f"less {env.folder}/{active}.log")
        if not last:
            time.sleep(0.25)
    if state.switch["from"]:
        wait_for_streams(env, state.switch["from"], max(0.0, env.config.drain_deadline_seconds - elapsed()))
    env.record.append("baked", active, **receipt(state, env.router.traffic(), elapsed()), watch=watcher.receipt())


def outcome(env: Environment, state: State, kind: str) -> dict[str, Any]:
    """What `deploy --json` prints: the receipt of the last bake beside where the endpoint stands."""
    baked = [event for event in env.record.read() if event.kind == "baked"]
    standing = {"environment": env.config.name, "base_url": env.router.base_url + "/v1", "release": state.release_of(state.active), "slot": state.active}
    if kind == "await_promotion":
        return standing | {"waiting": state.desired, "next": f"tunegate promote {env.config.name}"}
    if state.rollback:
        return standing | {"flip_milliseconds": state.switch["flip_milliseconds"], "streams_open_at_switch": state.switch["streams_open_at_switch"]}
    return standing | {"receipt": baked[-1].facts if baked else None}


def status(env: Environment) -> dict[str, Any]:
    """Everything an operator asks first. Reads only; needs no lock."""
    state = env.record.state()
    seen, events = env.observe(state), env.record.read()
    traffic = env.router.traffic() if seen.door_open else {}

    def slot(name: SlotName) -> dict[str, Any]:
        found = state.slots[name]
        return {
            "release": found.release if found else None,
            "alive": name in seen.alive,
            "proofs": [proof for proof in PROOF if found and proof in found.proofs],
            "open_streams": traffic[name].open if traffic else 0,
        }

    door = {"url": env.router.base_url, "open": seen.door_open, "sends_to": seen.routed}
    return {
        "environment": env.config.name,
        "door": door,
        "active": state.active,
        "desired": state.desired,
        "refused": state.refused,
        "slots": {name: slot(name) for name in SLOTS},
        "events": [{"at": event.at, "kind": event.kind, "slot": event.slot} for event in events[-8:]],
    }


def stop_all(env: Environment, drain_seconds: float = 0) -> None:
    """Ends the door and both slots; the record says so, and the next deploy starts from nothing."""
    with locked(env):
        state = env.record.state()
        env.router.stop(drain_seconds)
        for slot, port in zip(SLOTS, env.config.slot_ports, strict=True):
            process = env.process(state, slot)
            if process:
                stop_slot(process, drain_seconds=KILL_SECONDS)
            reap_orphan(port)
            if state.slots[slot]:
                env.record.append("stopped", slot, release=state.release_of(slot), why="stop")


@contextmanager
def locked(env: Environment) -> Iterator[None]:
    """One command at a time changes an environment; the lock dies with its holder."""
    from filelock import FileLock, Timeout

    env.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(env.folder / "lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"another command is changing {env.config.name}", hint=f"tunegate status {env.config.name}") from None
