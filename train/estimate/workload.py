"""What a run asks of a machine: what its rows are, and how they are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.data_card import DataCard, read_data_card
from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.task import PAIRED
from configs.training.lora import CHANGES_BASE
from infra.hub import fetch_config
from train.batches.order import total_steps
from train.estimate.devices import Device
from train.estimate.model_shape import ModelShape, read_shape
from train.estimate.row_figures import RowFigures, describe_rows
from train.model.dtype import choose_dtype, cpu_multiplies_bfloat16
from train.model.find_base import find_weights

BASES = Path("build/base")


@dataclass(frozen=True)
class Computation:
    """How rows are computed. `batch`: sequences that go through together; `accumulation`: micro-batches a step.

    `adapted`: the base is frozen, adapters of `rank` learn. `four_bit`, `narrow_base`: the base is held in 4 bits, in
    bfloat16; else in float32. `fused_head`: the loss is computed of some rows at a time, never of all logits
    (train/layers/linear_cross_entropy.py, on a GPU Liger's). `sharded`: FSDP2 over `processes`; else each holds all.
    `offloading`: checkpointed layers' inputs wait in the host's memory. On a GPU `batch` is that of one process.
    """

    batch: int
    accumulation: int
    steps: int
    eval_every: int
    rank: int
    adapted: bool
    four_bit: bool
    dtype: Literal["float32", "bfloat16", "float16"]
    narrow_base: bool
    checkpointing: bool
    on_cpu: bool
    fused_head: bool
    optimizer: str = "adamw"
    processes: int = 1
    sharded: bool = False
    offloading: bool = False
    of_a_row: int = 1  # sequences: chosen and rejected go through together

    @property
    def shards(self) -> int:
        """Processes that hold a part each of weights, gradients and the optimizer's state."""
        return self.processes if self.sharded else 1

    @property
    def width(self) -> int:
        """Bytes of a number that a matrix product gives."""
        return 4 if self.dtype == "float32" else 2

    @property
    def forward_share(self) -> float:
        """Of a step's work: a frozen weight is multiplied once more backward, a trained one twice more."""
        return 1 / 2 if self.adapted else 1 / 3


@dataclass(frozen=True)
class Workload:
    """What one training asks."""

    rows: RowFigures
    compute: Computation

    @property
    def tokens(self) -> int:
        """Of the largest micro-batch; its shared prefix comes once (train/batches/collate.py:flatten)."""
        return self.compute.batch * self.rows.longest - self.rows.shared_prefix * (self.compute.batch - 1)

    @property
    def row_tokens(self) -> float:
        """Computed for a row on average: padding counts, a micro-batch's shared prefix counts once."""
        padded = self.rows.mean / (1 - self.rows.padding)
        return padded - self.rows.shared_prefix * (self.compute.batch - 1) / self.compute.batch

    def computed_with(self, **changes: Any) -> Workload:
        """The same rows, some keys of Computation changed."""
        return replace(self, compute=replace(self.compute, **changes))


def find_shape(config: RunConfig, root: Path = BASES) -> ModelShape:
    """Of the base that `prepare` made, else of where it would come from: of the hub's its config.json alone is fetched.

    Raises InputError where the weights would have to be fetched first, as `fetch_config` where the hub has no answer.
    """
    made = root / config.base.folder.name
    if (made / "config.json").exists():
        return read_shape(made)
    if config.base.hub and config.base.revision:
        return read_shape(fetch_config(config.base.hub, config.base.revision))
    if config.base.pin:
        raise InputError(
            f"{made}: the base weights are not here yet, so their shape is unknown", hint="tunegate prepare CONFIG"
        )
    return read_shape(find_weights(config.base, root).source)


def describe_workload(config: RunConfig, shape: ModelShape, paths: RunPaths, device: Device) -> Workload:
    """Without a data card every row is taken to be data.max_tokens long and to be all targets: an upper bound."""
    card = read_data_card(paths)
    compute = describe_computation(config, shape, card, device)
    return Workload(
        describe_rows(config, card, paths, compute.steps, is_padding_free(config)),
        compute,
    )


def is_padding_free(config: RunConfig) -> bool:
    """As train/layers/attention.py:use_attention would have it, were the model one of full attention."""
    settings = config.train
    return config.task == "causal-lm" and settings.packing != "none" and settings.attention in ("auto", "sdpa")


def describe_computation(config: RunConfig, shape: ModelShape, card: DataCard | None, device: Device) -> Computation:
    settings = config.train
    train_rows = card["splits"]["train"]["rows"] if card else config.data.max_rows or 0
    steps = total_steps(settings, train_rows)
    # every GPU of the table multiplies bfloat16
    dtype = choose_dtype(settings.dtype, lambda: device.name != "cpu" or cpu_multiplies_bfloat16())
    on_cpu, processes = device.name == "cpu", config.launch.world_size
    stored_narrow = dtype == "bfloat16" and shape.stored_width == 2 and not shape.float16
    held_narrow = shape.family == "decoder" and (stored_narrow if on_cpu else dtype != "float32")
    held_narrow = held_narrow and settings.lora.initialization not in CHANGES_BASE
    fusable = is_padding_free(config) and not shape.capped
    rows = settings.batch_size if on_cpu else settings.batch_size // processes  # one machine's CPU is all processes'
    of_a_row = 2 if config.task in PAIRED else 1
    return Computation(
        batch=rows * of_a_row,
        accumulation=settings.gradient_accumulation_steps,
        steps=steps,
        eval_every=settings.eval_interval(steps),
        rank=settings.lora.rank,
        adapted=settings.method != "full",
        four_bit=settings.method == "qlora",
        dtype=dtype,
        narrow_base=settings.method == "lora" and held_narrow,
        checkpointing=settings.gradient_checkpointing,
        on_cpu=on_cpu,
        fused_head=fusable and (settings.method == "lora" or not on_cpu),
        optimizer=settings.optimizer,
        processes=processes,
        sharded=config.launch.strategy == "fsdp",
        offloading=settings.activation_offload,
        of_a_row=of_a_row,
    )
