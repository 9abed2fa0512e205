"""The two slots of an environment: blue and green."""

from __future__ import annotations

from typing import Literal

SlotName = Literal["blue", "green"]
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")


def other(slot: SlotName) -> SlotName:
    return "green" if slot == "blue" else "blue"
