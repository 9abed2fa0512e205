"""What a run asks of a machine: its config, its data card where `prepare` has written one, and the device."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.run.train import Train
from infra.files.atomic import read_json
from train.batches.order import RowSchedule, order_rows
from train.data.lengths import load_chat_template
from train.estimate.devices import Device
from train.estimate.memory import Workload
from train.estimate.model_shape import ModelShape, read_shape
from train.model.dtype import FAST_BFLOAT16_FLAGS, cpu_flags
from train.model.find_base import find_weights

SAMPLED_ROWS = 500
SAMPLED_LENGTHS = 10_000
BASES = Path("build/base")


def find_shape(config: RunConfig, root: Path = BASES) -> ModelShape:
    """Of the base that `prepare` made, else of where it would come from. Raises InputError where that would have to be
    fetched first."""
    made = root / config.base.name
    if (made / "config.json").exists():
        return read_shape(made)
    if config.base.pin:
        raise InputError(
            f"{made}: the base weights are not here yet, so their shape is unknown", hint="tunegate prepare CONFIG"
        )
    return read_shape(find_weights(config.base, root)[0])


def describe_workload(config: RunConfig, shape: ModelShape, paths: RunPaths, device: Device) -> Workload:
    """Without a data card every row is taken to be data.max_tokens long and taught whole: an upper bound."""
    settings, card = config.train, read_json(paths.data / "data_card.json") or {}
    dtype = choose_dtype(settings.dtype, device)
    rows = {name: part["rows"] for name, part in card.get("splits", {}).items()}
    longest, mean = row_lengths(card, config.data.max_tokens)
    base, flat = (
        BASES / config.base.name,
        config.task == "causal-lm" and settings.packing != "none" and settings.attention in ("auto", "sdpa"),
    )
    effective = settings.batch_size * settings.gradient_accumulation_steps
    steps = settings.max_steps or max(
        1, math.ceil(rows.get("train", config.data.max_rows or 0) * (settings.epochs or 0) / effective)
    )
    return Workload(
        batch=settings.batch_size
        * (2 if config.task.startswith("dpo") else 1),  # chosen and rejected go through together
        longest=longest,
        mean=mean,
        shared=shared_tokens(paths.data, base, settings.batch_size) if flat else 0,
        target_token_share=target_token_share(paths.data, base, mean),
        steps=steps,
        accumulation=settings.gradient_accumulation_steps,
        eval_every=min(settings.eval_every_steps, steps),
        validation_rows=rows.get("validation", config.data.validation_rows),
        test_rows=rows.get("test", config.data.test_rows),
        rank=settings.lora.rank,
        adapted=settings.method != "full",
        four_bit=settings.method == "qlora",
        dtype=dtype,
        narrow_base=settings.method == "lora"
        and dtype == "bfloat16"
        and shape.stored_width == 2
        and shape.family == "decoder",
        checkpointing=settings.gradient_checkpointing,
        on_cpu=device.name == "cpu",
        fused_head=flat and settings.method == "lora" and dtype == "float32" and not shape.capped,
        padding=0.0 if flat else padding_share(card, settings, steps),
    )


def choose_dtype(setting: str, device: Device) -> Any:
    """As train.hardware.choose_dtype, without torch and for devices that are not here: every GPU of the table
    multiplies bfloat16."""
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
    return min(bound, math.ceil(edges[-1])), sum(
        count * middle for count, middle in zip(counts, middles, strict=True)
    ) / sum(counts)


def padding_share(card: dict[str, Any], settings: Train, steps: int) -> float:
    """As training will order rows of such lengths, a sample of them drawn from the card's histogram; 0.0 where their
    lengths are not known."""
    lengths, rows = card.get("lengths") or {}, card.get("splits", {}).get("train", {}).get("rows", 0)
    counts, edges = numpy.array(lengths.get("counts") or [0]), numpy.array(lengths.get("edges") or [0, 0])
    effective = settings.batch_size * settings.gradient_accumulation_steps
    if not rows or not counts.sum():
        return 0.0
    drawn = numpy.random.default_rng(settings.seed).choice(
        (edges[:-1] + edges[1:]) // 2, min(rows, SAMPLED_LENGTHS), p=counts / counts.sum()
    )
    steps = min(steps, max(1, SAMPLED_LENGTHS // effective))
    order = order_rows(drawn, steps, effective, settings.seed, grouped=settings.length_grouping)
    return RowSchedule(drawn[order], settings.batch_size, steps, True, rows).padding_share


def target_token_share(data: Path, base: Path, mean: float) -> float:
    """Share of a row's tokens that its answer is, over the first rows; 1.0, the most there can be, where that is not
    known or all is taught."""
    answers = [answer for row in sampled_rows(data) if (answer := answer_of(row))]
    if not answers or not (base / "tokenizer.json").exists():
        return 1.0
    taught = sum(count + 1 for count in count_tokens(base, answers))  # and the token that ends it
    return min(1.0, taught / len(answers) / mean)


def shared_tokens(data: Path, base: Path, batch: int) -> int:
    """Tokens that the prompts of `batch` rows begin with alike, on average over the first rows; 0 where that is not
    known."""
    rows = sampled_rows(data)
    if not rows or "text" in rows[0] or not (base / "tokenizer.json").exists():
        return 0
    render = load_chat_template(base) if "messages" in rows[0] else None
    prompts = [render(row["messages"][:-1]) if render else str(row["prompt"]) for row in rows]
    groups = [prompts[start : start + batch] for start in range(0, max(1, len(prompts) - batch + 1), batch)]
    beginnings = [
        common_prefix(min(group), max(group)) for group in groups
    ]  # what the first and the last in order begin with, all do
    return sum(count_tokens(base, beginnings)) // len(groups)


def common_prefix(one: str, other: str) -> str:
    return one[
        : next(
            (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
    ]


def sampled_rows(data: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    if not (data / "train.parquet").exists():
        return []
    batch = next(pyarrow.parquet.ParquetFile(data / "train.parquet").iter_batches(SAMPLED_ROWS), None)
    return batch.to_pylist() if batch is not None else []


def count_tokens(base: Path, texts: list[str]) -> list[int]:
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_file(str(base / "tokenizer.json")).encode_batch_fast(texts, add_special_tokens=False)
    return [len(encoding.ids) for encoding in encodings]


def answer_of(row: dict[str, Any]) -> str:
    return str(row["messages"][-1]["content"]) if "messages" in row else str(row.get("completion", ""))
