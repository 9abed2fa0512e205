"""What a run asks of a machine: its config, its data card where `prepare` has written one, and the device."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.paths import RunPaths
from configs.schema import RunConfig
from train.atomic import read_json
from train.devices import Device
from train.hardware import FAST_BFLOAT16_FLAGS, cpu_flags
from train.origin import find_weights
from train.preflight import Workload
from train.shapes import ModelShape, read_shape

SAMPLED_ROWS = 500
BASES = Path("build/base")


def find_shape(config: RunConfig, root: Path = BASES) -> ModelShape:
    """Of the base that `prepare` made, else of where it would come from. Raises InputError where that would have to be fetched first."""
    made = root / config.base.name
    if (made / "config.json").exists():
        return read_shape(made)
    if config.base.pin:
        raise InputError(f"{made}: the base weights are not here yet, so their shape is unknown", hint="tunegate prepare CONFIG")
    return read_shape(find_weights(config.base, root)[0])


def describe_workload(config: RunConfig, shape: ModelShape, paths: RunPaths, device: Device) -> Workload:
    """Without a data card every row is taken to be data.max_tokens long and taught whole: an upper bound."""
    settings, card = config.train, read_json(paths.data / "data_card.json") or {}
    dtype = choose_dtype(settings.dtype, device)
    rows = {name: part["rows"] for name, part in card.get("splits", {}).items()}
    longest, mean = row_lengths(card, config.data.max_tokens)
    effective = settings.batch_size * settings.gradient_accumulation_steps
    steps = settings.max_steps or max(1, math.ceil(rows.get("train", config.data.max_rows or 0) * (settings.epochs or 0) / effective))
    return Workload(
        batch=settings.batch_size * (2 if config.task.startswith("dpo") else 1),  # chosen and rejected go through together
        longest=longest,
        mean=mean,
        taught_share=taught_share(paths.data, BASES / config.base.name, mean),
        steps=steps,
        accumulation=settings.gradient_accumulation_steps,
        eval_every=min(settings.eval_every_steps, steps),
        validation_rows=rows.get("validation", config.data.validation_rows),
        test_rows=rows.get("test", config.data.test_rows),
        rank=settings.lora.rank,
        adapted=settings.method != "full",
        four_bit=settings.method == "qlora",
        dtype=dtype,
        narrow_base=settings.method == "lora" and dtype == "bfloat16" and shape.stored_width == 2 and shape.family == "decoder",
        checkpointing=settings.gradient_checkpointing,
        on_cpu=device.name == "cpu",
    )


def choose_dtype(setting: str, device: Device) -> Any:
    """As train.hardware.choose_dtype, without torch and for devices that are not here: every GPU of the table multiplies bfloat16."""
    if setting != "auto":
        return setting
    return "bfloat16" if device.name != "cpu" or FAST_BFLOAT16_FLAGS & cpu_flags(Path("/proc/cpuinfo")) else "float32"


def row_lengths(card: dict[str, Any], bound: int) -> tuple[int, float]:
    """Tokens of the longest and of the mean row, from the card's histogram."""
    lengths = card.get("lengths") or {}
    counts, edges = lengths.get("counts") or [], lengths.get("edges") or []
    if not sum(counts):
        return bound, float(bound)
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return min(bound, math.ceil(edges[-1])), sum(count * middle for count, middle in zip(counts, middles, strict=True)) / sum(counts)


def taught_share(data: Path, base: Path, mean: float) -> float:
    """Share of a row's tokens that its answer is, over the first rows; 1.0, the most there can be, where that is not known or all is taught."""
    if not (data / "train.parquet").exists() or not (base / "tokenizer.json").exists():
        return 1.0
    import pyarrow.parquet
    from tokenizers import Tokenizer

    batch = next(pyarrow.parquet.ParquetFile(data / "train.parquet").iter_batches(SAMPLED_ROWS), None)
    answers = [answer for row in (batch.to_pylist() if batch is not None else []) if (answer := answer_of(row))]
    encodings = Tokenizer.from_file(str(base / "tokenizer.json")).encode_batch_fast(answers, add_special_tokens=False)
    taught = sum(len(encoding.ids) + 1 for encoding in encodings)  # and the token that ends it
    return min(1.0, taught / len(answers) / mean) if answers else 1.0


def answer_of(row: dict[str, Any]) -> str:
    return str(row["messages"][-1]["content"]) if "messages" in row else str(row.get("completion", ""))
