"""The loop of a deploy: plan, do one thing, record it, until nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypedDict

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InconclusiveError, RefusedError, TunegateError
from configs.slots import SlotName
from infra.dvc.judgements import verdict_path
from infra.dvc.releases import find_trusted
from serve.exporter.exporter import Exporter
from serve.plan.action import End, EndKind
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.record.champion import judging
from serve.record.environment import BusyError, Environment, holder_of, locked
from serve.record.facts import Receipt
from serve.record.state import State
from serve.switch.effects import perform_task
from serve.switch.loop import Loop
from serve.switch.tasks import Tasks
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
        check_decided(env, state)
        if holder_of(env) is None:
            raise ExternalError(
                f"{holder} ended before the request was carried out", hint=f"tunegate deploy {env.config.name}"
            )
        time.sleep(FOLLOW_SECONDS)


def reconcile(env: Environment) -> DeployResult:
    """The loop. A failure of the desired release is recorded, cleared away, and raised when what served is seen to
    serve."""
    failure: TunegateError | None = None
    actions = 0
    with (
        Tasks(env, perform_task) as tasks,
        closing(Exporter(env)) as exporter,
        closing(Loop(tasks, note=exporter.note)) as loop,
    ):
        while actions < MOST_ACTIONS:
            found = loop.advance(env)
            state = env.record.state()
            if isinstance(found, End):
                return end(env, state, found, failure)
            if isinstance(found, TunegateError):
                failure = found
            if isinstance(found, float) and found:
                check_decided(env, state)
                loop.wait(found)
            else:
                actions += 1
    raise ExternalError(
        f"{MOST_ACTIONS} actions did not reach the desired state", hint=f"tunegate status {env.config.name}"
    )


def check_decided(env: Environment, state: State) -> None:
    """A command does not wait for a person; whoever holds the environment after it watches on. Raises InconclusiveError
    where a watch could not tell."""
    if state.awaits_person:
        name = env.config.name
        raise InconclusiveError(
            f"{state.wanted.desired}: under traffic nothing was shown, and it is watched on: {state.awaits_person}",
            hint=f"tunegate resume {name} accepts it, tunegate abort {name} goes back",
        )


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
