"""What a deploy would do, shown before it is done: the steps of the plan, and whether the memory suffices. Changes
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

from configs.environment.strategy import Canary
from configs.release import read_manifest
from configs.slots import SLOTS, SlotName, other
from serve.plan.action import Action, End
from serve.plan.capacity import measure
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.plan.situation import Observed
from serve.record.environment import Environment
from serve.record.event import Event, Kind
from serve.record.facts import Mode, Planned
from serve.record.fold import apply
from serve.record.state import State
from serve.switch.gpus import plan_gpus
from serve.switch.reconcile import check_release
from serve.switch.shared_server import why_not_shared

MOST_STEPS = 60
NEVER = "1970-01-01T00:00:00+00:00"


class Preview(TypedDict, total=False):
    """As JSON. `capacity`: the arithmetic of memory, `mode` what follows from it; both only where there are `steps`."""

    environment: str
    serves: str | None
    release: str | None
    strategy: str
    capacity: str
    mode: Mode
    steps: list[str]


def preview(env: Environment, reference: str | None) -> Preview:
    """Raises RefusedError as the deploy would: for the release's bytes, signature or verdict, or where the memory does
    not suffice. A release that is not here yet is fetched, for its size decides."""
    state = env.record.state()
    found: Preview = {
        "environment": env.config.name,
        "serves": state.release_of(state.active),
        "release": reference,
        "strategy": strategy_summary(env),
    }
    if reference is None:
        return {**found, "steps": []}
    serving = env.processes(state, state.active) if state.active and state.active in env.alive(state) else []
    manifest = read_manifest(check_release(env.config, reference) / "release")
    separate = why_not_shared(env, state, state.active, manifest)
    planned = measure(env.config, manifest, state.proof_seconds, serving, separate)
    planned = plan_gpus(env, state, other(state.active) if state.active else SLOTS[0], manifest, planned)
    steps = steps_to(env, state, reference, planned)
    return {**found, "capacity": planned["why"], "mode": planned["mode"], "steps": steps}


def strategy_summary(env: Environment) -> str:
    strategy = env.config.strategy
    shares = ", ".join(f"{step} %" for step in strategy.steps) if isinstance(strategy, Canary) else ""
    return f"{strategy.kind}{f' at {shares}' if shares else ''}, promotion {env.config.promotion}"


def steps_to(env: Environment, state: State, reference: str, planned: Planned) -> list[str]:
    """The planner itself, asked what comes next where every step goes well."""
    if state.wanted.desired != reference:
        state = imagine(state, "desired", release=reference)
    seen = replace(observe(env, state), router_running=True)
    steps: list[str] = []
    for _ in range(MOST_STEPS):
        found = plan(state, env.config, seen)
        if isinstance(found, Action):
            steps.append(describe_action(found))
            state, seen = succeed(state, seen, found, planned, env.config.slots.servers)
        elif found.kind == "await_promotion":
            steps.append(describe_action(found))
            state = imagine(state, "promoted", release=state.wanted.desired)
        else:
            break
    return steps


def describe_action(found: Action | End) -> str:
    detail = ""
    if isinstance(found, Action):
        detail = found.proof or (f"{found.weight} %" if found.weight else "") or (found.release or "")[:40]
    return " ".join(word for word in (found.kind.replace("_", " "), found.slot or "", detail) if word)


def imagine(state: State, kind: Kind, slot: SlotName | None = None, **facts: object) -> State:
    return apply(state, Event(at=NEVER, kind=kind, slot=slot, facts=facts))


def succeed(state: State, seen: Observed, action: Action, planned: Planned, count: int) -> tuple[State, Observed]:
    """The state and the world after an action that went well, where a slot has `count` servers."""
    slot = action.slot
    release, before = state.release_of(slot), dict[str, object]()
    if slot is None:
        return state, seen
    match action.kind:
        case "start":
            facts = {"server": action.server} if action.server else {"servers": count}
            state = imagine(state, "starting", slot, release=action.release, **facts)
            return imagine(state, "started", slot, pid=0, server=action.server), replace(
                seen, alive=seen.alive | {slot}
            )
        case "stop":
            return imagine(state, "stopped", slot), replace(seen, alive=seen.alive - {slot})
        case "sleep":
            return imagine(state, "slept", slot), seen
        case "wake":
            return imagine(state, "woken", slot), seen
        case "switch":
            state = imagine(imagine(state, "switching", slot), "switched", slot, before=before, release=release)
            return state, replace(seen, weights=shares(slot, 100))
        case "step":
            weight = action.weight or 0
            state = imagine(state, "stepped", slot, weight=weight, before=before, release=release)
            return state, replace(seen, weights=shares(slot, weight))
        case "prove":
            return imagine(state, "proven", slot, proof=action.proof, server=action.server), seen
        case "measure":
            return imagine(state, "planned", slot, **planned), seen
        case "analyse":
            return imagine(state, "analysed", slot), seen
        case "bake":
            return imagine(state, "baked", slot), seen
        case "queue":
            return imagine(state, "queued", slot, before=before, release=release), seen
        case "crashed":
            return imagine(state, "crashed", slot, server=action.server), seen
    return imagine(state, "resumed"), seen


def shares(slot: SlotName, weight: int) -> Mapping[SlotName, int]:
    return {slot: weight, other(slot): 100 - weight}
