"""Launch: how many processes train together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section


class Launch(Section):
    """How many processes train together; `train.batch_size` rows are split evenly among all of them."""

    processes: int = Field(1, ge=1, le=1024, description="on each node; one for each GPU")
    nodes: int = Field(1, ge=1, le=1024, description="more than one: the same command on each, TUNEGATE_RENDEZVOUS=HOST:PORT, one shared file system")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="ddp: each process holds the whole model; fsdp: a shard of it, GPU only")

    @model_validator(mode="after")
    def shards_need_company(self) -> Launch:
        if self.strategy == "fsdp" and self.world_size == 1:
            raise ValueError("more than one process with strategy fsdp")
        return self

    @property
    def world_size(self) -> int:
        """Processes of all nodes."""
        return self.processes * self.nodes
