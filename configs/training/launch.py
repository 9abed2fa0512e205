"""Launch: how many processes train together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section


class Launch(Section):
    """How many processes train together; `train.batch_size` rows are split evenly among all of them."""

    processes: int = Field(1, ge=1, le=1024, description="on each node; one for each GPU")
    nodes: int = Field(
        1,
        ge=1,
        le=1024,
        description="more than one: the same command on each, TUNEGATE_RENDEZVOUS=HOST:PORT, one shared file system",
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="ddp: each process holds the whole model; fsdp, a shard of it, is refused yet"
    )

    @model_validator(mode="after")
    def strategy_is_proven(self) -> Launch:
        """On CPUs accelerate ignores it (accelerate/state.py: MULTI_CPU is not among the types that shard); two GPUs to
        prove it on were not to be had."""
        if self.strategy == "fsdp":
            raise ValueError("strategy ddp: accelerate does not shard on CPUs, and fsdp was never run on two GPUs")
        return self

    @property
    def world_size(self) -> int:
        """Processes of all nodes."""
        return self.processes * self.nodes
