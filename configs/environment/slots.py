"""What a slot is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from configs.section import Section
from configs.slots import SLOTS, SlotName

MOST_SERVERS = 16
# By the number that nvidia-smi gives it, or by its UUID: a GPU's, or an instance's of one.
Number = Annotated[int, Field(strict=True, ge=0, le=99)]
Gpu = Number | Annotated[str, StringConstraints(pattern=r"^(\d{1,2}|(GPU|MIG)-[0-9A-Za-z-]{4,64})$")]
Gpus = Annotated[list[Gpu], Field(min_length=1, max_length=64)]


class Devices(Section):
    """By slot, for each of its servers, the GPUs that it sees: no others."""

    blue: list[Gpus] = Field(max_length=MOST_SERVERS)
    green: list[Gpus] = Field(max_length=MOST_SERVERS)

    def of(self, slot: SlotName) -> list[list[str]]:
        return [[str(gpu) for gpu in one] for one in (self.blue if slot == "blue" else self.green)]


class StatedGpus(Section):
    """As nvidia-smi has them: so many, each with so much memory in all."""

    count: int = Field(ge=1, le=64)
    gib: float = Field(gt=0, le=1000)


class Slots(Section):
    """Each of the two slots is a set of servers of one release."""

    servers: int = Field(
        1,
        ge=1,
        le=MOST_SERVERS,
        description="model servers of a slot; the router sends a request to the one with the fewest, and goes on with "
        "the others when one dies",
    )
    devices: Literal["auto"] | Devices | None = Field(
        None,
        description="which GPUs each server sees, by number or UUID; auto: those that its release needs, and a share "
        "of their memory, so that both slots fit where they can; null: all of them, as CUDA has them",
    )
    gpus: StatedGpus | None = Field(
        None,
        description="GPUs of the machine that it serves on, for machines that have none: `check` and `gate` refuse "
        "there what would not fit, before it is trained",
    )

    @model_validator(mode="after")
    def each_server_has_its_own(self) -> Slots:
        if not isinstance(self.devices, Devices):
            return self
        for slot in SLOTS:
            lists = self.devices.of(slot)
            if len(lists) != self.servers:
                raise ValueError(f"{self.servers} lists in devices.{slot}, one for each server, not {len(lists)}")
            named = [gpu for one in lists for gpu in one]
            if twice := sorted({gpu for gpu in named if named.count(gpu) > 1}):
                raise ValueError(f"each GPU once in devices.{slot}, not {', '.join(twice)} twice")
        return self

    def devices_of(self, slot: SlotName, server: int) -> list[str]:
        """As named; empty where none are."""
        return self.devices.of(slot)[server] if isinstance(self.devices, Devices) else []
