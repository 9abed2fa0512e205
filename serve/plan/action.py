"""What may come next: something to do, or an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.slots import SlotName

ActionKind = Literal[
    "start_router", "crashed", "fall_back", "page", "wait", "measure", "queue", "start", "prove", "step", "analyse",
    "switch", "bake", "stop", "sleep", "wake", "refuse", "verify",
]  # fmt: skip
EndKind = Literal["await_promotion", "refused", "paused", "paged", "done"]


@dataclass(frozen=True)
class Action:
    """A thing to do. `server`: which one of the slot's, of a start, a proof and a crash; `release`: what to start or to
    fall back to; `proof`: the next thing to be shown; `weight`: the slot's next share. `verify` is never planned: a pin
    is looked at before it is wanted."""

    kind: ActionKind
    slot: SlotName | None = None
    server: int = 0
    release: str | None = None
    proof: str | None = None
    weight: int | None = None
    seconds: float = 0.0
    why: str | None = None


@dataclass(frozen=True)
class End:
    """Nothing more is to be done until a person, or the world, changes something."""

    kind: EndKind
    slot: SlotName | None = None
    why: str | None = None
