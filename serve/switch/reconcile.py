"""The loop of a deploy: plan, do one thing, record it, until nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, RefusedError, TunegateError
from configs.slots import SlotName, other
from infra.dvc.judgements import verdict_path
from infra.dvc.releases import find_trusted
from infra.terminal import waiting
from serve.plan.action import Action, End, EndKind
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.record.champion import judging
from serve.record.environment import BusyError, Environment, holder_of, locked
from serve.record.facts import Desired, Receipt
from serve.record.state import State
from serve.switch.effects import perform
from serve.switch.servers import crash
from serve.switch.verdict import check_verdict

MOST_ACTIONS = 100
FOLLOW_SECONDS = 0.1


class DeployResult(TypedDict, total=False):
    """What `deploy --json` prints: where the endpoint stands, what it waits for, and the receipt of the last bake; of a
    rollback the switch's own figures, and what became of the pin."""

    environment: str
    base_url: str
    release: str | None
    slot: SlotName | None
    waiting: str | None
    weight: int
    next: str
    receipt: Receipt | None
    flip_milliseconds: float
    first_request_milliseconds: float
    streams_open_at_switch: int
    branch: str | None
    merge_request: str | None


def check_release(config: DeployConfig, reference: str) -> Path:
    """The folder of the very bytes, signed where the environment asks for it, and a passing verdict that holds here and
    now. Raises RefusedError where one of them does not."""
    folder = find_trusted(reference, config.signing)
    check_verdict(config, reference, verdict_path(folder, judging(config).name))
    return folder


def act(env: Environment, request: Callable[[Environment], None], *, beside: bool = False) -> DeployResult:
    """Puts a request on record and carries it out; where an agent holds the environment it carries it out, and is
    followed.

    `beside`: any holder does, for the request is about what is under way. Raises BusyError where another command is at
    work.
    """
    try:
        with locked(env) as held:
            request(held)
            return reconcile(held)
    except BusyError:
        holder = holder_of(env)
        if holder is None or not (beside or holder["command"] == "agent"):
            raise
    request(env)
    return follow(env, f"{holder['command']} {holder['pid']}")


def follow(env: Environment, holder: str) -> DeployResult:
    """Waits until the plan has nothing more to do; the holder does it. Raises ExternalError if the holder ends before
    that."""
    env.report_progress(f"{holder} of {env.config.name} does it")
    while True:
        state = env.record.state()
        found = plan(state, env.config, observe(env, state))
        if isinstance(found, End):
            return end(env, state, found, None)
        if holder_of(env) is None:
            raise ExternalError(
                f"{holder} ended before the request was carried out", hint=f"tunegate deploy {env.config.name}"
            )
        time.sleep(FOLLOW_SECONDS)


def reconcile(env: Environment) -> DeployResult:
    """The loop. A failure of the desired release is recorded, cleared away, and raised when what served is seen to
    serve."""
    failure: TunegateError | None = None
    for _ in range(MOST_ACTIONS):
        state = env.record.state()
        found = plan(state, env.config, observe(env, state))
        if isinstance(found, End):
            return end(env, state, found, failure)
        failure = attempt(env, state, found) or failure
    raise ExternalError(
        f"{MOST_ACTIONS} actions did not reach the desired state", hint=f"tunegate status {env.config.name}"
    )


def attempt(env: Environment, state: State, action: Action) -> TunegateError | None:
    """Does one action. A failure is returned once the record says what follows from it; that of what serves is
    raised."""
    what = " ".join(word for word in (action.kind.replace("_", " "), action.slot, action.proof) if word)
    try:
        with waiting(what):
            perform(action, env, state)
    except TunegateError as error:
        return answer_failure(env, state, action, error)
    except OSError as error:
        outside = ExternalError(f"{action.kind}: {error}", hint=f"df -h {env.folder}")
        return answer_failure(env, state, action, outside)
    if action.kind == "fall_back":
        return RefusedError(f"{state.release_of(action.slot)}: {action.why}", hint=f"tunegate status {env.config.name}")
    return None


def end(env: Environment, state: State, found: End, failure: TunegateError | None) -> DeployResult:
    """Raises what went wrong on the way, if anything did; else where the endpoint stands."""
    hint = f"tunegate status {env.config.name}"
    if found.kind == "paged":
        raise ExternalError(f"{env.config.name}: {found.why}", hint=hint)
    if failure and found.kind in ("refused", "done"):
        raise failure
    if found.kind == "refused":
        raise RefusedError(f"{state.wanted.desired}: {state.refused}", hint=hint)
    return deploy_result(env, state, found.kind)


def answer_failure(env: Environment, state: State, action: Action, error: TunegateError) -> TunegateError | None:
    """What failed decides: the router's death and a lost lock condemn no release; what serves is a crash; all else
    refuses the desired one."""
    if isinstance(error, ExternalError) and action.kind != "start_router" and not env.router.is_running():
        return None
    env.record.check_token()
    serves = action.slot is not None and action.slot in (state.active, state.moves.swapping)
    if action.slot is None or (serves and action.kind not in ("bake", "start", "prove")):
        raise error
    if serves and action.kind != "bake":
        crash(env, env.record.state(), action.slot, error.message)
        raise error
    give_up(env, state, error, baking=action.kind == "bake")
    return error


def give_up(env: Environment, state: State, error: TunegateError, *, baking: bool) -> None:
    """A failed bake goes back to the warm standby, else to the newest release that came through its bake; before the
    switch nothing had moved."""
    env.report_progress(f"refused: {error.message}")
    back = (warm_standby(env, state) or state.last_good) if baking else None
    if back is None:
        env.record.append("refused", why=error.message)
        return
    facts: Desired = {"release": back, "rollback": True, "failed": state.wanted.desired, "why": error.message}
    env.record.append("desired", **facts)


def warm_standby(env: Environment, state: State) -> str | None:
    """The other slot's release, if it is proven and its server lives: traffic can go there at once."""
    slot = other(state.active) if state.active else None
    found = state.slots[slot] if slot else None
    return found.release if found and found.is_proven and slot in env.alive(state) else None


def deploy_result(env: Environment, state: State, kind: EndKind | None = None) -> DeployResult:
    """Where the endpoint stands."""
    found: DeployResult = {
        "environment": env.config.name,
        "base_url": env.router.base_url + "/v1",
        "release": state.release_of(state.active),
        "slot": state.active,
    }
    if kind in ("await_promotion", "paused"):
        verb = "promote" if kind == "await_promotion" else "resume"
        waiting: DeployResult = {"waiting": state.wanted.desired, "weight": state.moves.weight}
        return {**found, **waiting, "next": f"tunegate {verb} {env.config.name}"}
    switch = state.moves.switch
    if state.wanted.rollback and switch:
        return {
            **found,
            "flip_milliseconds": switch["flip_milliseconds"],
            "first_request_milliseconds": switch["first_request_milliseconds"],
            "streams_open_at_switch": switch["streams_open_at_switch"],
        }
    return {**found, "receipt": state.receipt}
