"""The record as a person or a machine reads it: one line an event, some kinds, the last few, and those to come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, get_args

from configs.errors import InputError
from configs.release import short
from serve.record.environment import Environment
from serve.record.state import Event, Kind
from serve.view.tail import Tail

LONGEST_WORDS = 300


def read_events(
    env: Environment, kinds: Collection[str] = (), limit: int | None = None, *, follow: bool = False, ended: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Oldest first: the last `limit` (None: all) of `kinds` (none: every one); with `follow` those to come as well, until `ended`.

    A line that is not whole yet is waited for, and one torn by a kill left out. Raises InputError for an unknown kind or where nothing is recorded.
    """
    check_kinds(kinds)
    tail = Tail(env.record.path)
    if not tail.path.exists() and not follow:
        raise InputError(f"{env.config.name}: nothing is recorded yet: no {tail.path}", hint=f"tunegate deploy {env.config.name}")
    yield from deque(chosen(tail.read(), kinds), maxlen=limit)
    if follow:
        yield from chosen(tail.follow(ended), kinds)


def check_kinds(kinds: Collection[str]) -> None:
    unknown = sorted(set(kinds) - set(get_args(Kind)))
    if unknown:
        raise InputError(f"found the kind {unknown[0]!r}, expected one of {', '.join(get_args(Kind))}", hint="tunegate events --help")


def chosen(lines: Iterator[str], kinds: Collection[str]) -> Iterator[Event]:
    for line in lines:
        try:
            event = Event.model_validate(json.loads(line))
        except ValueError:
            continue
        if not kinds or event.kind in kinds:
            yield event


def in_one_line(event: Event) -> str:
    """Moment (UTC), slot, kind, the reason, then facts by name; what has parts of its own is only named (`--json` shows it)."""
    facts = dict(event.facts)
    words = [plain(facts.pop("why"))] if "why" in facts else []
    words += [f"{name}={worded(value)}" for name, value in facts.items() if value is not None]
    return f"{event.at[:19]}Z  {event.slot or '-':<5}  {event.kind:<9}  {'  '.join(words)}".rstrip()


def worded(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{…}" if value else "{}"
    return plain(short(value) if isinstance(value, str) else value)


def plain(value: Any) -> str:
    """On one line and without control characters: a reason may quote a server's log."""
    text = "".join(character for character in " ".join(str(value).split()) if character.isprintable())
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"
