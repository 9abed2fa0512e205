"""A State folded from its events: a function for each kind. Pure; an event means what the state before it makes of it.
What the facts of each kind are: serve/record/facts.py; those of one slot: serve/record/fold_slots.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from configs.slots import other
from serve.record.event import Event
from serve.record.facts import Acquired, Because, Desired, Failed, Holder, Inconclusive, ReleaseNamed
from serve.record.fold_slots import apply_to_slot, refused, without_share
from serve.record.state import State


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


def with_wanted(state: State, **changes: Any) -> State:
    return replace(state, wanted=replace(state.wanted, **changes))


def with_git(state: State, **changes: Any) -> State:
    return replace(state, git=replace(state.git, **changes))


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
        return replace(state, refused=facts["why"], inconclusive=None)
    failed = state.wanted.desired
    return with_wanted(call_off(state), desired=standby, rollback=True, failed=failed, why=facts["why"])


def held(state: State, facts: ReleaseNamed) -> State:
    return with_wanted(call_off(state), desired=facts["release"], rollback=True, failed=None, held=True)


def resumed(state: State) -> State:
    """A hold kept the YAML's pin back: forget it, so that it is read as a new one. What a watch could not tell a person
    has accepted."""
    pinned = None if state.wanted.held else state.wanted.pinned
    crashes = () if state.paged else state.crashes
    if state.inconclusive and state.awaits_person:
        accepted: Inconclusive = {**state.inconclusive, "then": "accept"}
        state = replace(state, inconclusive=accepted)
    return with_wanted(replace(state, paged=None, crashes=crashes), paused=False, held=False, pinned=pinned)


def call_off(state: State) -> State:
    """Whatever was under way is not any more; the slots stay as they are."""
    return replace(without_share(state), refused=None, planned={}, paged=None, inconclusive=None)
