"""The record as a person or a machine reads it: one line an event, some kinds, the last few, and those to come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import get_args

from configs.errors import InputError
from serve.record.environment import Environment
from serve.record.event import Event, Kind
from serve.view.tail import Tail


def read_events(
    env: Environment,
    kinds: Collection[str] = (),
    limit: int | None = None,
    *,
    follow: bool = False,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Oldest first: the last `limit` (None: all) of `kinds` (none: every one); with `follow` those to come as well,
    until `ended`.

    A line that is not whole yet is waited for, and one torn by a kill left out. Raises InputError for an unknown kind
    or where nothing is recorded.
    """
    check_kinds(kinds)
    tail = Tail(env.record.path)
    if not tail.path.exists() and not follow:
        raise InputError(
            f"{env.config.name}: nothing is recorded yet: no {tail.path}", hint=f"tunegate deploy {env.config.name}"
        )
    yield from deque(chosen(tail.read(), kinds), maxlen=limit)
    if follow:
        yield from chosen(tail.follow(ended), kinds)


def check_kinds(kinds: Collection[str]) -> None:
    unknown = sorted(set(kinds) - set(get_args(Kind)))
    if unknown:
        raise InputError(
            f"found the kind {unknown[0]!r}, expected one of {', '.join(get_args(Kind))}", hint="tunegate events --help"
        )


def chosen(lines: Iterator[str], kinds: Collection[str]) -> Iterator[Event]:
    for line in lines:
        try:
            event = Event.model_validate(json.loads(line))
        except ValueError:
            continue
        if not kinds or event.kind in kinds:
            yield event
