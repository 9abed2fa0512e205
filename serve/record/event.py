"""One line of the record, and how it reads in one line. What the facts of each kind are: serve/record/facts.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from configs.release import short
from configs.section import Section
from configs.slots import SlotName
from infra.boot import Moment

LONGEST_WORDS = 300


def in_one_line(event: Event) -> str:
    """Moment (UTC), slot, kind, the reason, then facts by name; what has parts of its own is only named (`--json` shows
    it)."""
    facts = dict(event.facts)
    words = [plain(facts.pop("why"))] if "why" in facts else []
    words += [f"{name}={brief_value(value)}" for name, value in facts.items() if value is not None]
    return f"{event.at[:19]}Z  {event.slot or '-':<5}  {event.kind:<9}  {'  '.join(words)}".rstrip()


def brief_value(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{…}" if value else "{}"
    return plain(short(value) if isinstance(value, str) else value)


def plain(value: Any) -> str:
    """On one line and without control characters: a reason may quote a server's log."""
    text = "".join(character for character in " ".join(str(value).split()) if character.isprintable())
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


Kind = Literal[
    "acquired", "desired", "planned", "starting", "started", "proven", "refused", "promoted", "stepped", "analysed",
    "queued", "switching", "switched", "baked", "stopped", "paused", "resumed", "aborted", "held", "crashed", "paged",
    "failed", "pulled", "proposed", "reported", "keyed", "inconclusive", "sleeping", "slept", "waking", "woken",
]  # fmt: skip


# What somebody wanted; the rest is what came of it.
REQUESTS = ("desired", "promoted", "paused", "resumed", "aborted", "held")


# What a slot must show, in this order, before any traffic reaches it.
PROOF = ("healthy", "warm", "smoke", "parity", "load")


class Event(Section):
    """One line of events.jsonl. `boot` and `uptime`: the moment as no step of the clock moves it (infra.boot.Moment).
    `by` and `commit`, of a request: who, and from which commit; `seal` ties it to the lines before it
    (infra/files/sealed_log.py)."""

    at: str
    boot: str = ""
    uptime: float = 0.0
    kind: Kind
    slot: SlotName | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    by: str | None = None
    commit: str | None = None
    seal: str | None = None

    @property
    def moment(self) -> Moment:
        return Moment(datetime.fromisoformat(self.at).timestamp(), self.boot, self.uptime)
