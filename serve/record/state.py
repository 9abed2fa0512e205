"""What is so in one environment: a State folded from its events. Pure; an event means what the state before it makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from configs.section import Section
from configs.slots import SLOTS, SlotName, other

Kind = Literal[
    "acquired", "desired", "planned", "starting", "started", "proven", "refused", "promoted", "stepped", "analysed", "queued", "switching", "switched", "baked",
    "stopped", "paused", "resumed", "aborted", "held", "crashed", "paged", "failed", "pulled", "proposed", "reported", "keyed",
]  # fmt: skip
# What somebody wanted; the rest is what came of it.
WISHES = ("desired", "promoted", "paused", "resumed", "aborted", "held")
# What a slot must show, in this order, before any traffic reaches it.
PROOF = ("healthy", "warm", "smoke", "parity", "load")


class Event(Section):
    """One line of events.jsonl. `by` and `commit`, of a wish: who, and from which commit; `seal` ties it to the lines before it (infra/files/sealed_log.py)."""

    at: str
    kind: Kind
    slot: SlotName | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    by: str | None = None
    commit: str | None = None
    seal: str | None = None


@dataclass(frozen=True)
class SlotState:
    """What the record says of one slot; whether its process lives is observed, not recorded, but that its death was seen is."""

    release: str
    process: dict[str, Any] | None = None
    proofs: frozenset[str] = frozenset()
    crashed: bool = False

    @property
    def is_proven(self) -> bool:
        return self.proofs.issuperset(PROOF)


@dataclass(frozen=True)
class State:
    """`switching` is set between the intent to switch and its confirmation; `refused` says why the desired release may not serve;
    `failed` is the release that a rollback left behind for good; `pinned` the last wish that came from a person's YAML, by `author` in `commit`
    where that YAML follows a branch; `why` says why something else is desired, or why that wish could not even be tried;
    `follows` is the branch that the last agent took its wishes from, `pulled` what it took or refused of it last, `proposed` the commit that writes a
    rollback back to it, `reported` what GitLab was told last; `weight` the share (percent) of the candidate, the slot that does not serve yet;
    `swapping` what was stopped to make room."""

    token: int = 0
    desired: str | None = None
    pinned: str | None = None
    commit: str | None = None
    author: str | None = None
    rollback: bool = False
    why: str | None = None
    follows: str | None = None
    pulled: dict[str, Any] = field(default_factory=dict)
    proposed: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)
    failed: str | None = None
    refused: str | None = None
    promoted: str | None = None
    paused: bool = False
    held: bool = False
    slots: dict[SlotName, SlotState | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    active: SlotName | None = None
    planned: dict[str, Any] = field(default_factory=dict)
    weight: int = 0
    analysed: int = 0
    step: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    swapping: SlotName | None = None
    switching: SlotName | None = None
    switch: dict[str, Any] = field(default_factory=dict)
    baked: bool = True
    good: tuple[str, ...] = ()
    crashes: tuple[tuple[str, str], ...] = ()
    paged: str | None = None

    def release_of(self, slot: SlotName | None) -> str | None:
        found = self.slots[slot] if slot else None
        return found.release if found else None

    @property
    def capacity(self) -> str | None:
        return self.planned.get("mode")

    @property
    def candidate(self) -> SlotName | None:
        return other(self.active) if self.active else None

    @property
    def last_good(self) -> str | None:
        """The newest release that came through its bake, the desired and the failed one excepted."""
        return next((one for one in reversed(self.good) if one not in (self.desired, self.failed)), None)


def fold(events: Iterable[Event]) -> State:
    """Pure: the same events give the same state."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    facts = event.facts
    if event.kind == "acquired":
        return replace(state, token=facts["token"], follows=facts.get("follows") if facts.get("command") == "agent" else state.follows)
    if event.kind in ("pulled", "proposed", "reported"):
        known: dict[str, Any] = {event.kind: facts}
        return replace(state, **known)
    if event.kind == "desired":
        return wish(state, facts)
    if event.kind == "aborted":
        return abort(state, facts)
    if event.kind == "held":
        return replace(call_off(state), desired=facts["release"], rollback=True, failed=None, held=True)
    if event.kind == "failed":  # what the YAML pins may not even be tried: not again before the YAML changes
        return pinned_by(replace(state, pinned=facts.get("release", state.pinned), why=facts.get("why")), facts)
    if event.kind == "refused":
        return replace(without_share(state), refused=facts["why"])
    if event.kind == "promoted":
        return replace(state, promoted=facts["release"])
    if event.kind == "planned":
        return replace(state, planned=facts)
    if event.kind == "paused":
        return replace(state, paused=True)
    if event.kind == "resumed":
        # A hold kept the YAML's wish back: forget it, so that it is read as a new one.
        return replace(state, paused=False, held=False, pinned=None if state.held else state.pinned, paged=None, crashes=() if state.paged else state.crashes)
    if event.kind == "paged":
        return replace(state, paged=facts["why"])
    return apply_to_slots(state, event) if event.slot else state


def wish(state: State, facts: dict[str, Any]) -> State:
    """A person's wish starts with a clean slate: what crashed before does not count against it."""
    release, by_itself = facts["release"], bool(facts.get("rollback"))
    crashes = state.crashes if by_itself else tuple(one for one in state.crashes if one[0] != release)
    state = replace(call_off(state), desired=release, rollback=by_itself, failed=facts.get("failed"), why=facts.get("why"), crashes=crashes)
    return state if by_itself and not facts.get("pinned") else pinned_by(replace(state, pinned=release, proposed={}), facts)


def pinned_by(state: State, facts: dict[str, Any]) -> State:
    """Unknown where the wish came from no commit: a person's command, a YAML that is nobody's clone."""
    return replace(state, commit=facts.get("commit"), author=facts.get("author"))


def call_off(state: State) -> State:
    """Whatever was under way is not any more; the slots stay as they are."""
    return replace(without_share(state), refused=None, planned={}, paged=None)


def without_share(state: State) -> State:
    """The candidate gets no new requests any more; the ledger of a swap, whose door is held, goes on."""
    return replace(state, weight=0, analysed=0, step={}, ledger=state.ledger if state.swapping else {})


def abort(state: State, facts: dict[str, Any]) -> State:
    """Before the switch the desired release is refused; after it the other slot's release is wanted again, if there is one."""
    if state.rollback:  # it is on its way back already
        return replace(state, paused=False)
    serving = state.switching or state.active
    if serving is None or state.release_of(serving) != state.desired:
        return replace(without_share(state), refused=facts["why"], paused=False)
    heir = state.release_of(other(serving))
    if heir is None:
        return replace(state, refused=facts["why"], paused=False)
    return replace(call_off(state), desired=heir, rollback=True, failed=state.desired, why=facts["why"], paused=False)


def apply_to_slots(state: State, event: Event) -> State:
    slot, facts = event.slot, event.facts
    assert slot is not None
    if event.kind == "queued":
        return replace(state, swapping=slot, active=None, ledger=facts | {"at": event.at})
    if event.kind == "stepped":
        began = state.ledger if state.weight or not facts["weight"] else facts | {"at": event.at}
        same = state.weight == facts["weight"] and bool(state.step)  # only told again to a router that forgot: its watch goes on
        return replace(state, weight=facts["weight"], ledger=began, step=state.step if same else facts | {"at": event.at})
    if event.kind == "analysed":
        return replace(state, analysed=state.weight)
    if event.kind == "switching":
        return replace(state, switching=slot)
    if event.kind == "switched":
        return switched(state, slot, facts, event.at)
    if event.kind == "baked":
        good = tuple(one for one in state.good if one != state.release_of(slot))
        return replace(state, baked=True, good=(*good, str(state.release_of(slot))))
    if event.kind == "crashed":
        state = note_crash(state, slot, event.at)
    if event.kind == "stopped" and facts.get("why") == "stop":  # only `tunegate stop` does this
        state = replace(state, active=None if slot == state.active else state.active, switching=None, swapping=None, ledger={}, weight=0)
    if event.kind == "stopped" and slot == state.swapping:
        state = replace(state, ledger=state.ledger | {"drained_seconds": facts.get("drain_seconds", 0.0)})
    if event.kind == "stopped" and slot == state.active:
        state = replace(state, active=None, switching=None)
    return replace(state, slots=state.slots | {slot: apply_to_slot(state.slots[slot], event)})


def switched(state: State, slot: SlotName, facts: dict[str, Any], at: str) -> State:
    """The ledger began with the first share, or with the queue of a swap; without either it begins here."""
    began = state.ledger
    queued = round(seconds_between(began["at"], at), 1) if state.swapping else None
    switch = {"before": {}, "from": None} | facts | {"at": at, "began_before": began.get("before", facts.get("before")), "queued_seconds": queued}
    switch["drained_seconds"] = began.get("drained_seconds", 0.0)
    return replace(state, active=slot, switching=None, swapping=None, switch=switch, ledger={}, step={}, weight=0, analysed=0, baked=False)


def seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def note_crash(state: State, slot: SlotName, at: str) -> State:
    """A server that dies under a share of the traffic has refused itself; the intent to switch to a dead server is void."""
    crashes = (*state.crashes, (str(state.release_of(slot)), at))
    switching = None if slot == state.switching else state.switching
    if state.weight and slot == state.candidate:
        why = f"{state.release_of(slot)}: its server died under {state.weight} % of the traffic"
        return replace(without_share(state), crashes=crashes, switching=switching, refused=why)
    return replace(state, crashes=crashes, switching=switching)


def apply_to_slot(slot: SlotState | None, event: Event) -> SlotState | None:
    if event.kind == "starting":
        return SlotState(event.facts["release"])
    if event.kind == "started" and slot:
        return replace(slot, process=event.facts)
    if event.kind == "proven" and slot:
        return replace(slot, proofs=slot.proofs | {event.facts["proof"]})
    if event.kind == "crashed" and slot:
        return replace(slot, crashed=True)
    return None if event.kind == "stopped" else slot
