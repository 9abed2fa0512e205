"""Launch: how many processes train together, and what of the model each of them holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.section import Section
from configs.task import Task
from configs.training.engine import Kubernetes, Ray, Slurm
from configs.training.lora import CHANGES_BASE
from configs.training.train import BITSANDBYTES, Train

SHARDED_TASKS = ("causal-lm", "sequence-classification", "token-classification")


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
        "ddp",
        description="ddp: each process holds the whole model; fsdp: a shard of every weight, gradient and moment "
        "(FSDP2, arXiv:2304.11277), for a model that one GPU cannot hold",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="of each process; null: an even share of the machine's. Sums over other numbers of threads round "
        "otherwise: with a number here every machine of one kind gives the same bytes",
    )
    engine: Literal["local", "slurm", "ray", "kubernetes"] = Field(
        "local", description="who starts the processes, and starts them again: this machine, or a cluster's own"
    )
    restarts: int = Field(
        3,
        ge=0,
        le=100,
        description="how often all processes start again from the last checkpoint, without a new one, before it fails",
    )
    checkpoints: str | None = Field(
        None,
        min_length=1,
        description="a path or s3://… to which each checkpoint is sent too, and from which a training goes on whose "
        "own are lost",
    )
    slurm: Slurm = Slurm()
    ray: Ray = Ray()
    kubernetes: Kubernetes = Kubernetes()

    @field_validator("checkpoints")
    @classmethod
    def store_is_known(cls, url: str | None) -> str | None:
        if url and "://" in url and not url.startswith("s3://"):
            raise ValueError("a path or s3://…")
        return url

    @model_validator(mode="after")
    def engine_has_what_it_needs(self) -> Launch:
        told = {
            "slurm": self.slurm != Slurm(),
            "ray": self.ray != Ray(),
            "kubernetes": self.kubernetes != Kubernetes(),
        }
        if others := [name for name, given in told.items() if given and name != self.engine]:
            raise ValueError(f"launch.engine {others[0]} with launch.{others[0]}")
        if self.engine == "kubernetes" and not (self.kubernetes.image and self.kubernetes.volume):
            raise ValueError("launch.kubernetes.image and volume with launch.engine kubernetes")
        return self

    @model_validator(mode="after")
    def shards_among_some(self) -> Launch:
        if self.strategy == "fsdp" and self.world_size == 1:
            raise ValueError("processes of at least 2 with strategy fsdp, which shares a model among them")
        return self

    @property
    def world_size(self) -> int:
        """Processes of all nodes."""
        return self.processes * self.nodes

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the model."""
        return self.strategy == "fsdp"

    def incompatibilities(self, task: Task, train: Train, adds_tokens: bool) -> list[str]:
        """What is expected instead where the model cannot be sharded so."""
        if not self.shards:
            return []
        rules = {
            f"launch.strategy ddp with task {task}: TRL's trainers hold the model to a reference, or generate, "
            "outside of the pass that is sharded": task in SHARDED_TASKS,
            f"train.optimizer adamw with launch.strategy fsdp: {train.optimizer} knows no sharded tensors "
            "(bitsandbytes#1633)": train.optimizer not in BITSANDBYTES,
            "train.optimizer adamw with launch.strategy fsdp: adafactor's moments are of whole rows and "
            "columns": train.optimizer != "adafactor",
            "train.dtype bfloat16 or float32 with launch.strategy fsdp: float16's scaler reads gradients that are "
            "elsewhere": train.dtype != "float16",
            f"train.lora.initialization default or gaussian with launch.strategy fsdp: {train.lora.initialization} "
            "begins with weights that rank 0 alone has read": train.lora.initialization not in CHANGES_BASE,
            "no base.add_tokens with launch.strategy fsdp: their rows are written into a whole embedding": not (
                adds_tokens
            ),
        }
        return [expected for expected, holds in rules.items() if not holds]
