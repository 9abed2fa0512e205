"""The two slots of an environment: blue and green."""

from __future__ import annotations

from typing import Literal

SlotName = Literal["blue", "green"]
Server = tuple[SlotName, int]  # one of the servers of a slot, by its number from 0
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")


def other(slot: SlotName) -> SlotName:
    return "green" if slot == "blue" else "blue"
