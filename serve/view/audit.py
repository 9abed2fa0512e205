"""The record as an auditor reads it: who wanted what, when, why, from which commit, and what came of it; and whether
the record is what was written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from configs.errors import InputError, RefusedError
from configs.release import short
from configs.slots import SlotName
from infra.files.sealed_log import ChainCheck, check
from serve.record.environment import Environment
from serve.record.event import REQUESTS, Event

# Beside the requests: what moved traffic or keys, was refused, was taken from a branch or proposed to it.
OUTCOMES = ("switched", "baked", "inconclusive", "refused", "failed", "crashed", "paged", "keyed", "pulled", "proposed")


class Row(TypedDict):
    at: str
    what: str
    slot: SlotName | None
    by: str | None
    commit: str | None
    why: str | None


def audit(events: Iterable[Event]) -> list[Row]:
    """Oldest first: at, what, release, by, commit, why. An outcome is its holder's: `by` is then whoever held the
    environment."""
    rows: list[Row] = []
    holder: str | None = None
    for event in events:
        if event.kind == "acquired":
            holder = f"{event.facts['command']} {event.facts['pid']}@{event.facts['host']}"
        if event.kind in REQUESTS or event.kind in OUTCOMES:
            rows.append(row_of(event, holder))
    return rows


def row_of(event: Event, holder: str | None) -> Row:
    """The commit and author that an agent names, which pulled them, before those of the checkout at hand."""
    facts = event.facts
    commit, author = facts.get("commit") or event.commit, facts.get("author")
    return {
        "at": event.at,
        "what": what(event),
        "slot": event.slot,
        "by": event.by or holder,
        "commit": f"{commit} ({author})" if author else commit,
        "why": facts.get("why"),
    }


def what(event: Event) -> str:
    facts = event.facts
    if event.kind == "keyed":
        return f"key {facts['change']}: {facts['name']}"
    verb = (
        "rollback to"
        if event.kind == "desired" and facts.get("rollback")
        else {"desired": "deploy", "promoted": "promote"}.get(event.kind, event.kind)
    )
    return f"{verb} {short(facts['release'])}" if facts.get("release") else verb


def verify(env: Environment, head: str | None) -> ChainCheck:
    """Raises RefusedError naming the first line that does not follow, or where `head`, a seal noted earlier, is not in
    the record any more."""
    path = env.record.path
    if not path.exists():
        raise InputError(
            f"{env.config.name}: nothing is recorded yet: no {path}", hint=f"tunegate deploy {env.config.name}"
        )
    found = check(path.read_bytes())
    hint = f"compare {path} with a copy of it; what serves is not touched"
    if found.broken:
        raise RefusedError(f"{path}: {found.broken}", hint=hint)
    if not found.seals:
        raise RefusedError(f"{path}: found {found.earlier} lines and no seal, expected sealed lines", hint=hint)
    if head and head not in found.seals:
        lost = f"found no line with the seal {head[:12]}…, which was noted earlier"
        raise RefusedError(f"{path}: {lost}: lines were cut off, or all were written anew", hint=hint)
    return found
