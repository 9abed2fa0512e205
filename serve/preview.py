"""What a deploy would do, said before it is done: the steps of the plan, and whether there is room. Changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from configs.environment.strategy import Canary
from configs.release import read_manifest
from configs.slots import SlotName
from infra.dvc.releases import find
from serve.plan.capacity import measure
from serve.plan.planner import Action, Observed, plan
from serve.record.environment import Environment
from serve.record.state import Event, State, apply
from serve.switch.shared_server import why_apart

MOST_STEPS = 60
NEVER = "1970-01-01T00:00:00+00:00"


def preview(env: Environment, reference: str | None) -> dict[str, Any]:
    """Raises RefusedError where there is no room; a release that is not here yet is fetched, for its size decides."""
    state = env.record.state()
    found: dict[str, Any] = {"environment": env.config.name, "serves": state.release_of(state.active), "release": reference, "strategy": said(env)}
    if reference is None:
        return found | {"steps": []}
    leaving = env.process(state, state.active) if state.active in env.alive(state) and state.active else None
    manifest = read_manifest(find(reference) / "release")
    room = measure(env.config, manifest, env.record.read(), leaving, why_apart(env, state, state.active, manifest))
    return found | {"capacity": room["why"], "mode": room["mode"], "steps": steps_to(env, state, reference, room)}


def said(env: Environment) -> str:
    strategy = env.config.strategy
    shares = ", ".join(f"{step} %" for step in strategy.steps) if isinstance(strategy, Canary) else ""
    return f"{strategy.kind}{f' at {shares}' if shares else ''}, promotion {env.config.promotion}"


def steps_to(env: Environment, state: State, reference: str, room: dict[str, Any]) -> list[str]:
    """The planner itself, asked what comes next where every step goes well."""
    state = apply(state, Event(at=NEVER, kind="desired", facts={"release": reference})) if state.desired != reference else state
    seen = env.observe(state)
    steps: list[str] = []
    seen = replace(seen, alive=frozenset(slot for slot in seen.alive if slot), door_open=True)
    for _ in range(MOST_STEPS):
        action = plan(state, env.config, seen)
        if action.kind in ("done", "refused", "paused", "paged"):
            return steps
        steps.append(in_words(action))
        if action.kind == "await_promotion":
            state = imagine(state, Event(at=NEVER, kind="promoted", facts={"release": state.desired}))
            continue
        state, seen = succeed(state, seen, action, room)
    return steps


def in_words(action: Action) -> str:
    detail = action.proof or (f"{action.weight} %" if action.weight else "") or (action.release or "")[:40]
    return " ".join(word for word in (action.kind.replace("_", " "), action.slot or "", detail) if word)


def imagine(state: State, *events: Event) -> State:
    for event in events:
        state = apply(state, event)
    return state


def succeed(state: State, seen: Observed, action: Action, room: dict[str, Any]) -> tuple[State, Observed]:
    """The state and the world after an action that went well."""
    slot = action.slot
    counts: dict[str, Any] = {"before": {}, "release": state.release_of(slot)}

    def event(kind: Any, **facts: Any) -> Event:
        return Event(at=NEVER, kind=kind, slot=slot, facts=facts)

    share: dict[SlotName, int] = dict(seen.weights)
    if action.kind == "start" and slot:
        events, seen = [event("starting", release=action.release), event("started", pid=0)], replace(seen, alive=seen.alive | {slot})
    elif action.kind == "stop" and slot:
        events, seen = [event("stopped")], replace(seen, alive=seen.alive - {slot})
    elif action.kind == "switch" and slot:
        events = [event("switching"), event("switched", **counts)]
        share = {"blue": 0, "green": 0, slot: 100}
    elif action.kind == "step" and slot and state.active:
        events = [event("stepped", weight=action.weight, **counts)]
        share = {state.active: 100 - (action.weight or 0), slot: action.weight or 0}
    else:
        kinds = {"prove": "proven", "measure": "planned", "analyse": "analysed", "bake": "baked", "queue": "queued", "crashed": "crashed"}
        facts = {"prove": {"proof": action.proof}, "measure": room, "queue": counts}.get(action.kind, {})
        events = [event(kinds.get(action.kind, "resumed"), **facts)]
    return imagine(state, *events), replace(seen, weights=share)
