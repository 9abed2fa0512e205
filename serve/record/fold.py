"""A State folded from its events: a function for each kind. Pure; an event means what the state before it makes of it.
What the facts of each kind are: serve/record/facts.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypedDict

from configs.slots import SlotName, other
from infra.boot import Moment
from serve.record.event import Event
from serve.record.facts import (
    Acquired,
    Because,
    Desired,
    Failed,
    Holder,
    Proven,
    Queued,
    Receipt,
    ReleaseNamed,
    Started,
    Stepped,
    Stopped,
    Switched,
)
from serve.record.state import BaselineCounters, Moves, Share, SlotState, State

LONGEST_WINDOW_SECONDS = 86_400  # supervision.window_seconds is at most this
MOST_RELEASES = 1_000  # of those that served the newest are known, so that no fold grows over the years


def fold(events: Iterable[Event]) -> State:
    """Pure: the same events give the same state."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    facts: Any = event.facts  # those of its kind: serve/record/facts.py
    match event.kind:
        case "acquired":
            return acquired(state, facts, event.at)
        case "pulled":
            return with_git(state, pulled=facts)
        case "proposed":
            return with_git(state, proposed=facts)
        case "reported":
            return with_git(state, reported=facts)
        case "desired":
            return desired(state, facts)
        case "failed":
            return failed(state, facts)
        case "aborted":
            return aborted(state, facts)
        case "held":
            return held(state, facts)
        case "refused":
            return refused(state, facts["why"])
        case "promoted":
            return with_wanted(state, promoted=facts["release"])
        case "paused":
            return with_wanted(state, paused=True)
        case "resumed":
            return resumed(state)
        case "planned":
            return replace(state, planned=facts)
        case "paged":
            return replace(state, paged=facts["why"])
    return apply_to_slot(state, event.slot, event) if event.slot else state


def apply_to_slot(state: State, slot: SlotName, event: Event) -> State:
    facts: Any = event.facts
    found = state.slots[slot]
    match event.kind:
        case "starting":
            return with_slot(state, slot, SlotState(facts["release"]))
        case "started":
            state = with_counted_before_load(state, slot, facts)
            return with_slot(state, slot, replace(found, process=facts)) if found else state
        case "proven":
            state = with_counted_before_load(state, slot, facts)
            return proven(state, slot, facts)
        case "queued":
            return queued(state, slot, facts, event)
        case "stepped":
            return stepped(with_counted(state, slot, facts), facts, event)
        case "analysed":
            return with_moves(state, analysed=state.moves.weight)
        case "switching":
            return with_moves(state, switching=slot)
        case "switched":
            return switched(with_counted(state, slot, facts), slot, facts, event)
        case "baked":
            return baked(state, slot, facts)
        case "crashed":
            return crashed(state, slot, event.moment)
        case "stopped":
            return stopped(state, slot, facts)
    return state


def with_wanted(state: State, **changes: Any) -> State:
    return replace(state, wanted=replace(state.wanted, **changes))


def with_git(state: State, **changes: Any) -> State:
    return replace(state, git=replace(state.git, **changes))


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
    return with_slot(state, slot, replace(found, proofs=found.proofs | {proof})) if found else state


def with_slot(state: State, slot: SlotName, found: SlotState | None) -> State:
    return replace(state, slots=state.slots | {slot: found})


def acquired(state: State, facts: Acquired, at: str) -> State:
    """Only an agent follows a branch; a command leaves it as it is."""
    holder: Holder = {**facts, "at": at}
    state = replace(state, holder=holder)
    return with_git(state, follows=facts.get("follows")) if facts.get("command") == "agent" else state


def desired(state: State, facts: Desired) -> State:
    """A person's request starts with a clean slate: what crashed before does not count against it."""
    release, is_rollback = facts["release"], bool(facts.get("rollback"))
    crashes = state.crashes if is_rollback else tuple(one for one in state.crashes if one[0] != release)
    state = with_wanted(
        replace(call_off(state), crashes=crashes),
        desired=release,
        rollback=is_rollback,
        failed=facts.get("failed"),
        why=facts.get("why"),
    )
    if is_rollback and not facts.get("pinned"):
        return state
    return with_git(pinned_by(state, release, facts), proposed={})


def failed(state: State, facts: Failed) -> State:
    """What the YAML pins may not even be tried: not again before the YAML changes."""
    state = with_wanted(state, why=facts.get("why"))
    return pinned_by(state, facts.get("release", state.wanted.pinned), facts)


def pinned_by(state: State, release: str | None, facts: Desired | Failed) -> State:
    """Commit and author are unknown where the pin came from no commit: a person's command, a YAML that is nobody's
    clone."""
    return with_wanted(state, pinned=release, commit=facts.get("commit"), author=facts.get("author"))


def aborted(state: State, facts: Because) -> State:
    """Before the switch the desired release is refused; after it the standby is wanted again, if there is one."""
    state = with_wanted(state, paused=False)
    if state.wanted.rollback:  # it is on its way back already
        return state
    serving = state.moves.switching or state.active
    if serving is None or state.release_of(serving) != state.wanted.desired:
        return refused(state, facts["why"])
    standby = state.release_of(other(serving))
    if standby is None:
        return replace(state, refused=facts["why"])
    failed = state.wanted.desired
    return with_wanted(call_off(state), desired=standby, rollback=True, failed=failed, why=facts["why"])


def held(state: State, facts: ReleaseNamed) -> State:
    return with_wanted(call_off(state), desired=facts["release"], rollback=True, failed=None, held=True)


def resumed(state: State) -> State:
    """A hold kept the YAML's pin back: forget it, so that it is read as a new one."""
    pinned = None if state.wanted.held else state.wanted.pinned
    crashes = () if state.paged else state.crashes
    return with_wanted(replace(state, paged=None, crashes=crashes), paused=False, held=False, pinned=pinned)


def refused(state: State, why: str) -> State:
    return replace(without_share(state), refused=why)


def call_off(state: State) -> State:
    """Whatever was under way is not any more; the slots stay as they are."""
    return replace(without_share(state), refused=None, planned={}, paged=None)


def without_share(state: State) -> State:
    """The candidate gets no new requests any more; the baseline of a swap, whose router is held, goes on."""
    counters = state.moves.baseline_counters if state.moves.swapping else None
    return with_moves(state, weight=0, analysed=0, step=None, baseline_counters=counters)


def queued(state: State, slot: SlotName, facts: Queued, event: Event) -> State:
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
        "began_unanswered": (began or facts).get("unanswered"),
        "queued_seconds": round(event.moment.since(began["moment"]), 1) if began and moves.swapping else None,
        "drained_seconds": began.get("drained_seconds", 0.0) if began else 0.0,
    }
    release = state.release_of(slot)
    earlier = {name: when for name, when in state.last_switched.items() if name != release}
    latest = dict(list(earlier.items())[1 - MOST_RELEASES :]) | ({release: event.at} if release else {})
    moves = Moves(switch=switch)  # type: ignore[arg-type]  # as built
    return replace(state, active=slot, baked=False, moves=moves, last_switched=latest)


def baked(state: State, slot: SlotName, facts: Receipt) -> State:
    release = str(state.release_of(slot))
    good = [one for one in state.good if one != release][1 - MOST_RELEASES :]
    return replace(state, baked=True, receipt=facts, good=(*good, release))


def crashed(state: State, slot: SlotName, at: Moment) -> State:
    """A server that dies under a share of the traffic has refused itself; the intent to switch to a dead server is
    void."""
    release, weight, found = str(state.release_of(slot)), state.moves.weight, state.slots[slot]
    if weight and slot == state.candidate:
        state = refused(state, f"{release}: its server died under {weight} % of the traffic")
    if slot == state.moves.switching:
        state = with_moves(state, switching=None)
    recent = tuple(one for one in state.crashes if at.since(one[1]) <= LONGEST_WINDOW_SECONDS)
    state = replace(state, crashes=(*recent, (release, at)))
    return with_slot(state, slot, replace(found, crashed=True) if found else None)


def stopped(state: State, slot: SlotName, facts: Stopped) -> State:
    """Of what a swap stops the drain is kept for its receipt; `tunegate stop` calls everything off."""
    if facts.get("why") == "stop":
        state = with_moves(state, switching=None, swapping=None, baseline_counters=None, weight=0)
    if slot == state.moves.swapping and state.moves.baseline_counters:
        drained: BaselineCounters = {
            **state.moves.baseline_counters,
            "drained_seconds": facts.get("drain_seconds", 0.0),
        }
        state = with_moves(state, baseline_counters=drained)
    if slot == state.active:
        state = with_moves(replace(state, active=None), switching=None)
    return with_slot(state, slot, None)


class When(TypedDict):
    at: str
    moment: Moment


def when(event: Event) -> When:
    return {"at": event.at, "moment": event.moment}
