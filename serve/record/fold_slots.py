"""What an event of one slot makes of the state: its servers come and go, and traffic moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypedDict

from configs.slots import SlotName, other
from infra.boot import Moment
from serve.record.event import Event
from serve.record.facts import (
    Crashed,
    Proven,
    Queued,
    Receipt,
    Started,
    Starting,
    Stepped,
    Stopped,
    Switched,
)
from serve.record.state import BaselineCounters, Moves, ServerState, Share, SlotState, State

LONGEST_WINDOW_SECONDS = 86_400  # supervision.window_seconds is at most this
MOST_RELEASES = 1_000  # of those that served the newest are known, so that no fold grows over the years


def apply_to_slot(state: State, slot: SlotName, event: Event) -> State:
    facts: Any = event.facts
    found = state.slots[slot]
    match event.kind:
        case "starting":
            return starting(state, slot, facts)
        case "started":
            state = with_counted_before_load(state, slot, facts)
            return with_server(state, slot, facts.get("server", 0), ServerState(facts)) if found else state
        case "proven":
            state = with_counted_before_load(state, slot, facts)
            return proven(state, slot, facts)
        case "queued":
            return queued(state, slot, facts, event)
        case "stepped":
            return stepped(with_counted(state, slot, facts), facts, event)
        case "analysed":
            return with_moves(replace(state, inconclusive=None), analysed=state.moves.weight)
        case "inconclusive":
            return replace(state, inconclusive=facts)
        case "switching":
            return with_moves(state, switching=slot)
        case "switched":
            return switched(with_counted(state, slot, facts), slot, facts, event)
        case "baked":
            return baked(state, slot, facts)
        case "crashed":
            return crashed(state, slot, facts, event.moment)
        case "stopped":
            return stopped(state, slot, facts)
        case "sleeping" | "waking":
            return with_rest(state, slot, "between")
        case "slept":
            return with_rest(drained(state, slot, facts), slot, "asleep")
        case "woken":
            return with_rest(state, slot, None)
    return state


def with_moves(state: State, **changes: Any) -> State:
    return replace(state, moves=replace(state.moves, **changes))


def with_counted(state: State, slot: SlotName, facts: Stepped | Switched) -> State:
    """Traffic came to the slot: its figures begin anew."""
    before = {name: one for name, one in state.counted_before_load.items() if name != slot}
    counted = state.counted | {slot: facts.get("counted", {}).get(slot, {})}
    return replace(state, counted=counted, counted_before_load=before)


def with_counted_before_load(state: State, slot: SlotName, facts: Started | Proven) -> State:
    """The counters of the other slot, where `slot` began to ask it too."""
    found = facts.get("counted", {}).get(other(slot))
    if found is None:
        return state
    return replace(state, counted_before_load=state.counted_before_load | {other(slot): found})


def proven(state: State, slot: SlotName, facts: Proven) -> State:
    proof, found = facts["proof"], state.slots[slot]
    if "seconds" in facts:
        state = replace(state, proof_seconds=state.proof_seconds | {proof: float(facts["seconds"])})
    number = facts.get("server", 0)
    server = found.servers.get(number) if found else None
    return with_server(state, slot, number, replace(server, proofs=server.proofs | {proof})) if server else state


def starting(state: State, slot: SlotName, facts: Starting) -> State:
    """One more server joins those that are there; else the slot begins anew."""
    found = state.slots[slot]
    if found and "server" in facts:
        others = {number: one for number, one in found.servers.items() if number != facts["server"]}
        return with_slot(state, slot, replace(found, servers=others))
    return with_slot(state, slot, SlotState(facts["release"], facts.get("servers", 1)))


def with_server(state: State, slot: SlotName, number: int, server: ServerState) -> State:
    found = state.slots[slot]
    return with_slot(state, slot, replace(found, servers={**found.servers, number: server})) if found else state


def with_slot(state: State, slot: SlotName, found: SlotState | None) -> State:
    return replace(state, slots=state.slots | {slot: found})


def queued(state: State, slot: SlotName, facts: Queued, event: Event) -> State:
    """Its server will be gone when its figures are asked for."""
    counted = state.counted_before_load | facts.get("counted", {})
    state = replace(state, counted_before_load=counted)
    return with_moves(replace(state, active=None), swapping=slot, baseline_counters={**facts, **when(event)})


def stepped(state: State, facts: Stepped, event: Event) -> State:
    """The first share is the baseline. The same share again is only told to a router that forgot it: its watch goes
    on."""
    share: Share = {**facts, **when(event)}
    moves = state.moves
    is_first = not moves.weight and facts["weight"]
    is_same = moves.weight == facts["weight"] and moves.step is not None
    return with_moves(
        state,
        weight=facts["weight"],
        baseline_counters=share if is_first else moves.baseline_counters,
        step=moves.step if is_same else share,
    )


def switched(state: State, slot: SlotName, facts: Switched, event: Event) -> State:
    """The baseline is the first share, or the queue of a swap; without either it is the switch itself."""
    moves, began = state.moves, state.moves.baseline_counters
    switch = {"before": {}, "from": None, **facts} | {
        **when(event),
        "began_before": began.get("before", facts.get("before")) if began else facts.get("before"),
        "began": began["moment"] if began else event.moment,
        "began_unanswered": (began or facts).get("unanswered"),
        "queued_seconds": round(event.moment.since(began["moment"]), 1) if began and moves.swapping else None,
        "drained_seconds": began.get("drained_seconds", 0.0) if began else 0.0,
    }
    release = state.release_of(slot)
    earlier = {name: when for name, when in state.last_switched.items() if name != release}
    latest = dict(list(earlier.items())[1 - MOST_RELEASES :]) | ({release: event.at} if release else {})
    moves = Moves(switch=switch)  # type: ignore[arg-type]  # as built
    return replace(state, active=slot, baked=False, moves=moves, last_switched=latest, inconclusive=None)


def baked(state: State, slot: SlotName, facts: Receipt) -> State:
    release = str(state.release_of(slot))
    good = [one for one in state.good if one != release][1 - MOST_RELEASES :]
    return replace(state, baked=True, receipt=facts, good=(*good, release), inconclusive=None)


def crashed(state: State, slot: SlotName, facts: Crashed, at: Moment) -> State:
    """A server that dies under a share of the traffic has refused itself; the intent to switch to a slot without a
    server is void."""
    release, weight, found = str(state.release_of(slot)), state.moves.weight, state.slots[slot]
    number = facts.get("server", 0)
    server = found.servers.get(number) if found else None
    if server:
        state = with_server(state, slot, number, replace(server, crashed=True))
        found = state.slots[slot]
    recent = tuple(one for one in state.crashes if at.since(one[1]) <= LONGEST_WINDOW_SECONDS)
    state = replace(state, crashes=(*recent, (release, at)))
    if found and not found.crashed and server:
        return state  # others are left
    if weight and slot == state.candidate:
        state = refused(state, f"{release}: its server died under {weight} % of the traffic")
    if slot == state.moves.switching:
        state = with_moves(state, switching=None)
    return state


def with_rest(state: State, slot: SlotName, rest: Literal["asleep", "between"] | None) -> State:
    found = state.slots[slot]
    return with_slot(state, slot, replace(found, rest=rest)) if found else state


def drained(state: State, slot: SlotName, facts: Stopped) -> State:
    """Of what a swap stops, or lays to sleep, the drain is kept for its receipt."""
    if slot != state.moves.swapping or not state.moves.baseline_counters:
        return state
    counters: BaselineCounters = {**state.moves.baseline_counters, "drained_seconds": facts.get("drain_seconds", 0.0)}
    return with_moves(state, baseline_counters=counters)


def stopped(state: State, slot: SlotName, facts: Stopped) -> State:
    """`tunegate stop` calls everything off."""
    if facts.get("why") == "stop":
        state = replace(state, inconclusive=None)
        state = with_moves(state, switching=None, swapping=None, baseline_counters=None, weight=0)
    state = drained(state, slot, facts)
    if slot == state.active:
        state = with_moves(replace(state, active=None), switching=None)
    return with_slot(state, slot, None)


def refused(state: State, why: str) -> State:
    return replace(without_share(state), refused=why, inconclusive=None)


def without_share(state: State) -> State:
    """The candidate gets no new requests any more; the baseline of a swap, whose router is held, goes on."""
    counters = state.moves.baseline_counters if state.moves.swapping else None
    return with_moves(state, weight=0, analysed=0, step=None, baseline_counters=counters)


class When(TypedDict):
    at: str
    moment: Moment


def when(event: Event) -> When:
    return {"at": event.at, "moment": event.moment}
