"""Deploy, roll back, promote, stop: plan one action, do it, record it, until the desired release serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import OutsideError, RefusedError, TunegateError
from configs.slots import SLOTS, SlotName, other
from configs.verdict import Verdict
from infra.dvc.releases import find_trusted
from infra.vllm.server import reap_orphan, stop_slot
from serve.plan.planner import ENDS, Action, plan
from serve.record.environment import BusyError, Environment, holder_of, locked
from serve.record.state import State
from serve.switch.effects import KILL_SECONDS, crash, perform
from serve.watch.bake import analyse, bake

MOST_ACTIONS = 100
FOLLOW_SECONDS = 0.1


def deploy(env: Environment, reference: str) -> dict[str, Any]:
    """Reconciles the environment to `reference`; killed at any moment, the next call goes on from the record.

    Raises RefusedError where the bytes, the verdict, a proof or the bake say no: what served serves on.
    """
    check_release(env.config, reference)

    def wish(env: Environment) -> None:
        state = env.record.state()
        if state.held:
            raise RefusedError(f"{env.config.name} is held at {state.release_of(state.active)}", hint=f"tunegate resume {env.config.name}")
        if state.desired != reference or state.refused is not None or state.rollback or state.paged:
            env.record.append("desired", release=reference)

    return act(env, wish)


def check_release(config: DeployConfig, reference: str) -> None:
    """The very bytes, signed where the environment asks for it, and a passing verdict on them."""
    path = find_trusted(reference, config.signing) / "gate" / "verdict.json"
    if not path.exists():
        raise RefusedError(f"{reference}: no verdict beside it", hint="tunegate gate CONFIG")
    verdict = Verdict.read(path)
    if verdict.release != reference or verdict.outcome != "pass":
        raise RefusedError(f"{reference}: the verdict is {verdict.outcome} on {verdict.release}, expected pass on this release", hint="tunegate gate CONFIG")


def rollback(env: Environment) -> dict[str, Any]:
    """Back to the warm other slot at once: no proof is repeated, nothing starts. Raises RefusedError where none is warm."""

    def wish(env: Environment) -> None:
        state = env.record.state()
        heir = other(state.active) if state.active else None
        slot = state.slots[heir] if heir else None
        if heir is None or slot is None or heir not in env.alive(state) or not slot.is_proven:
            raise RefusedError("no proven release is warm in the other slot", hint=f"tunegate deploy {env.config.name} RELEASE   (tunegate releases list)")
        env.record.append("desired", release=slot.release, rollback=True, why=env.why or "rolled back by a person")

    return act(env, wish)


def promote(env: Environment) -> dict[str, Any]:
    """Lets a proven release take the traffic, where the environment's promotion is manual."""

    def wish(env: Environment) -> None:
        state = env.record.state()
        if state.desired is None or state.refused is not None or state.release_of(state.active) == state.desired:
            raise RefusedError("no proven release is waiting", hint=f"tunegate status {env.config.name}")
        env.record.append("promoted", release=state.desired)

    return act(env, wish)


def act(env: Environment, wish: Callable[[Environment], None], *, beside: bool = False) -> dict[str, Any]:
    """Puts a wish on record and carries it out; where an agent holds the environment it carries it out, and is followed.

    `beside`: any holder does, for the wish is about what is under way. Raises BusyError where another command is at work.
    """
    try:
        with locked(env) as held:
            wish(held)
            return reconcile(held)
    except BusyError:
        holder = holder_of(env)
        if holder is None or not (beside or holder.facts["command"] == "agent"):
            raise
    wish(env)
    return follow(env, f"{holder.facts['command']} {holder.facts['pid']}")


def follow(env: Environment, holder: str) -> dict[str, Any]:
    """Waits until the plan has nothing more to do; the holder does it. Raises OutsideError if the holder ends before that."""
    env.tell(f"{holder} of {env.config.name} does it")
    while True:
        state = env.record.state()
        action = plan(state, env.config, env.observe(state))
        if action.kind in ENDS:
            return end(env, state, action, None)
        if holder_of(env) is None:
            raise OutsideError(f"{holder} ended before the wish was carried out", hint=f"tunegate deploy {env.config.name}")
        time.sleep(FOLLOW_SECONDS)


def reconcile(env: Environment) -> dict[str, Any]:
    """The loop. A failure of the desired release is recorded, cleared away, and raised when what served is seen to serve."""
    failure: TunegateError | None = None
    for _ in range(MOST_ACTIONS):
        state = env.record.state()
        action = plan(state, env.config, env.observe(state))
        if action.kind in ENDS:
            return end(env, state, action, failure)
        failure = attempt(env, state, action) or failure
    raise OutsideError(f"{MOST_ACTIONS} actions did not reach the desired state", hint=f"tunegate status {env.config.name}")


def attempt(env: Environment, state: State, action: Action) -> TunegateError | None:
    """Does one action. A failure is returned once the record says what follows from it; that of what serves is raised."""
    try:
        do(action, env, state)
    except (TunegateError, OSError) as caught:
        error = caught if isinstance(caught, TunegateError) else OutsideError(f"{action.kind}: {caught}", hint=f"df -h {env.folder}")
        return answer_failure(env, state, action, error)
    if action.kind == "fall_back":
        return RefusedError(f"{state.release_of(action.slot)}: {action.why}", hint=f"tunegate status {env.config.name}")
    return None


def do(action: Action, env: Environment, state: State) -> None:
    if action.kind == "bake":
        bake(env, state)
    elif action.kind == "analyse" and action.slot:
        analyse(env, state, action.slot)
    else:
        perform(action, env, state)


def end(env: Environment, state: State, action: Action, failure: TunegateError | None) -> dict[str, Any]:
    """Raises what went wrong on the way, if anything did; else where the endpoint stands."""
    hint = f"tunegate status {env.config.name}"
    if action.kind == "paged":
        raise OutsideError(f"{env.config.name}: {action.why}", hint=hint)
    if failure and action.kind in ("refused", "done"):
        raise failure
    if action.kind == "refused":
        raise RefusedError(f"{state.desired}: {state.refused}", hint=hint)
    return outcome(env, state, action.kind)


def answer_failure(env: Environment, state: State, action: Action, error: TunegateError) -> TunegateError | None:
    """What failed decides: the router's death and a lost lock condemn no release; what serves is a crash; all else refuses the desired one."""
    if isinstance(error, OutsideError) and action.kind != "open_door" and not env.router.is_running():
        return None
    env.record.check_token()
    serves = action.slot is not None and action.slot in (state.active, state.swapping)
    if action.slot is None or (serves and action.kind not in ("bake", "start", "prove")):
        raise error
    if serves and action.kind != "bake":
        crash(env, env.record.state(), action.slot, error.message)
        raise error
    give_up(env, state, error, baking=action.kind == "bake")
    return error


def give_up(env: Environment, state: State, error: TunegateError, *, baking: bool) -> None:
    """A failed bake goes back to the warm old slot, else to the newest release that came through its bake; before the switch nothing had moved."""
    env.tell(f"refused: {error.message}")
    old = other(state.active) if state.active else None
    heir = state.slots[old] if old else None
    warm = heir.release if heir and heir.is_proven and old in env.alive(state) else None
    if baking and (warm or state.last_good):
        env.record.append("desired", release=warm or state.last_good, rollback=True, failed=state.desired, why=error.message)
    else:
        env.record.append("refused", why=error.message)


def outcome(env: Environment, state: State, kind: str) -> dict[str, Any]:
    """What `deploy --json` prints: the receipt of the last bake beside where the endpoint stands."""
    baked = [event for event in env.record.read() if event.kind == "baked"]
    standing = {"environment": env.config.name, "base_url": env.router.base_url + "/v1", "release": state.release_of(state.active), "slot": state.active}
    if kind == "await_promotion":
        return standing | {"waiting": state.desired, "weight": state.weight, "next": f"tunegate promote {env.config.name}"}
    if kind == "paused":
        return standing | {"waiting": state.desired, "weight": state.weight, "next": f"tunegate resume {env.config.name}"}
    if state.rollback and state.switch:
        return standing | {name: state.switch[name] for name in ("flip_milliseconds", "first_request_milliseconds", "streams_open_at_switch")}
    return standing | {"receipt": baked[-1].facts if baked else None}


def stop_all(env: Environment, drain_seconds: float = 0) -> None:
    """Ends the door and both slots; the record says so, and the next deploy starts from nothing."""
    with locked(env) as held:
        state = held.record.state()
        held.router.stop(drain_seconds)
        for slot, port in zip(SLOTS, held.config.slot_ports, strict=True):
            end_slot(held, state, slot, port)


def end_slot(env: Environment, state: State, slot: SlotName, port: int) -> None:
    process = env.process(state, slot)
    if process:
        stop_slot(process, drain_seconds=KILL_SECONDS)
    reap_orphan(port)
    if state.slots[slot]:
        env.record.append("stopped", slot, release=state.release_of(slot), why="stop")
