"""Which facts each kind of event has: what is written, and what an older version wrote, must fit."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import TypeAdapter

from serve.record import facts, git_facts
from serve.record.event import Event, Kind
from serve.record.facts import Receipt

OPEN = ("proven", "keyed")  # a proof adds what it found, the keyring what it changed
FACTS: dict[Kind, Any] = {
    "acquired": facts.Acquired,
    "desired": facts.Desired,
    "planned": facts.Planned,
    "starting": facts.Starting,
    "started": facts.Started,
    "proven": facts.Proven,
    "refused": facts.Because,
    "promoted": facts.ReleaseNamed,
    "stepped": facts.Stepped,
    "analysed": facts.Analysed,
    "queued": facts.Queued,
    "switching": facts.Nothing,
    "switched": facts.Switched,
    "baked": Receipt,
    "stopped": facts.Stopped,
    "paused": facts.Nothing,
    "resumed": facts.Nothing,
    "aborted": facts.Because,
    "held": facts.ReleaseNamed,
    "crashed": facts.Crashed,
    "paged": facts.Because,
    "failed": facts.Failed,
    "pulled": git_facts.Pulled,
    "proposed": git_facts.Proposed,
    "reported": git_facts.Reported,
    "keyed": facts.Keyed,
    "inconclusive": facts.Inconclusive,
    "sleeping": facts.Nothing,
    "slept": facts.Stopped,
    "waking": facts.Nothing,
    "woken": facts.Woken,
}
assert set(FACTS) == set(get_args(Kind))
ADAPTERS = {kind: TypeAdapter(shape) for kind, shape in FACTS.items()}


def check_facts(event: Event) -> None:
    """Raises pydantic's ValidationError where a key is missing or of another type, AssertionError for one that is not
    stated."""
    known = ADAPTERS[event.kind].validate_python(event.facts, strict=False)
    more = event.facts.keys() - known.keys()
    assert not more or event.kind in OPEN, f"{event.kind}: {sorted(more)}"
