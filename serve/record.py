"""The append-only record of one environment, and the state that is folded from it. Nothing else is stored."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from configs.section import Section
from infra.router import SLOTS, SlotName

Kind = Literal["desired", "starting", "started", "proven", "refused", "promoted", "switching", "switched", "baked", "stopped"]
# What a slot must show, in this order, before any traffic reaches it.
PROOF = ("healthy", "warm", "smoke", "parity", "load")


class Event(Section):
    """One line of events.jsonl."""

    at: str
    kind: Kind
    slot: SlotName | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class SlotState:
    """What the record says of one slot; whether its process lives is observed, not recorded."""

    release: str
    process: dict[str, Any] | None = None
    proofs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """`switching` is set between the intent to switch and its confirmation; `refused` says why the desired release may not
    serve; `failed` is the release that a rollback left behind for good."""

    desired: str | None = None
    rollback: bool = False
    failed: str | None = None
    refused: str | None = None
    promoted: str | None = None
    slots: dict[SlotName, SlotState | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    active: SlotName | None = None
    switching: SlotName | None = None
    switch: dict[str, Any] = field(default_factory=dict)
    baked: bool = True

    def release_of(self, slot: SlotName | None) -> str | None:
        found = self.slots[slot] if slot else None
        return found.release if found else None


def other(slot: SlotName) -> SlotName:
    return "green" if slot == "blue" else "blue"


def fold(events: Iterable[Event]) -> State:
    """Pure: the same events give the same state."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    slot, facts = event.slot, event.facts
    if event.kind == "desired":
        return replace(state, desired=facts["release"], rollback=bool(facts.get("rollback")), failed=facts.get("failed"), refused=None)
    if event.kind == "refused":
        return replace(state, refused=facts["why"])
    if event.kind == "promoted":
        return replace(state, promoted=facts["release"])
    if slot is None:
        return state
    if event.kind == "switching":
        return replace(state, switching=slot)
    if event.kind == "switched":
        return replace(state, active=slot, switching=None, switch=facts | {"at": event.at}, baked=False)
    if event.kind == "baked":
        return replace(state, baked=True)
    if event.kind == "stopped" and slot == state.active:  # only `tunegate stop` does this
        state = replace(state, active=None, switching=None)
    return replace(state, slots=state.slots | {slot: apply_to_slot(state.slots[slot], event)})


def apply_to_slot(slot: SlotState | None, event: Event) -> SlotState | None:
    if event.kind == "starting":
        return SlotState(event.facts["release"])
    if event.kind == "started" and slot:
        return replace(slot, process=event.facts)
    if event.kind == "proven" and slot:
        return replace(slot, proofs=slot.proofs | {event.facts["proof"]})
    return None if event.kind == "stopped" else slot


@dataclass(frozen=True)
class Record:
    """events.jsonl of one environment."""

    path: Path

    def append(self, kind: Kind, slot: SlotName | None = None, **facts: Any) -> Event:
        """On disk (fsync) before it returns: what follows an event may rely on it."""
        event = Event(at=datetime.now(UTC).isoformat(timespec="milliseconds"), kind=kind, slot=slot, facts=facts)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
        with self.path.open("a", encoding="utf8") as stream:
            stream.write(("\n" if torn else "") + event.model_dump_json() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return event

    def read(self) -> list[Event]:
        """Every whole line; a line torn by a kill was never acted on."""
        if not self.path.exists():
            return []
        events = []
        for line in self.path.read_text(encoding="utf8").splitlines():
            try:
                events.append(Event.model_validate(json.loads(line)))
            except ValueError:
                continue
        return events

    def state(self) -> State:
        return fold(self.read())
