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
    bfloat16; else in float32. `fused_head`: train/layers/linear_cross_entropy.py.
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
    """Of the base that `prepare` made, else of where it would come from. Raises InputError where that would have to be
    fetched first."""
    made = root / config.base.folder.name
    if (made / "config.json").exists():
        return read_shape(made)
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
    stored_narrow = dtype == "bfloat16" and shape.stored_width == 2 and not shape.float16 and shape.family == "decoder"
    fusable = is_padding_free(config) and not shape.capped
    return Computation(
        batch=settings.batch_size * (2 if config.task in PAIRED else 1),  # chosen and rejected go through together
        accumulation=settings.gradient_accumulation_steps,
        steps=steps,
        eval_every=settings.eval_interval(steps),
        rank=settings.lora.rank,
        adapted=settings.method != "full",
        four_bit=settings.method == "qlora",
        dtype=dtype,
        narrow_base=settings.method == "lora" and stored_narrow,
        checkpointing=settings.gradient_checkpointing,
        on_cpu=device.name == "cpu",
        fused_head=settings.method == "lora" and fusable,
    )
