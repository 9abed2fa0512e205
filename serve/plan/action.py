"""What may come next: something to do, or an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.slots import SlotName

ActionKind = Literal[
    "start_router", "crashed", "fall_back", "page", "wait", "measure", "queue", "start", "prove", "step", "analyse",
    "switch", "bake", "stop", "refuse", "verify",
]  # fmt: skip
EndKind = Literal["await_promotion", "refused", "paused", "paged", "done"]


@dataclass(frozen=True)
class Action:
    """A thing to do. `release` is what to start in `slot` or to fall back to; `proof` is the next thing that `slot`
    must show; `weight` its next share. `verify` is never planned: a pin is looked at before it is wanted."""

    kind: ActionKind
    slot: SlotName | None = None
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
