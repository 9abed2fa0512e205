"""Sizes of published models, and memory that peers published of training them: tests/benchmarks/train/."""

from __future__ import annotations

import json
from typing import Any, Literal

from tests.paths import ROOT
from train.estimate.model_shape import ModelShape, read_config
from train.estimate.row_figures import RowFigures
from train.estimate.workload import Computation, Workload

Method = Literal["lora", "qlora", "full"]
FOLDER = ROOT / "tests/benchmarks/train"
PEERS: dict[str, Any] = json.loads((FOLDER / "peers.json").read_text())
PUBLISHED: dict[str, Any] = json.loads((FOLDER / "shapes.json").read_text())
SHAPES: dict[str, ModelShape] = {name: read_config(one["config"]) for name, one in PUBLISHED.items()}
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
SEVEN = (
    "Llama-3.2-1B",
    "Llama-3.2-3B",
    "Llama-3.1-8B",
    "Qwen3-14B",
    "Qwen3-32B",
    "Llama-3.3-70B",
    "Qwen3-30B-A3B",
)


def gpu_load(
    method: Method, batch: int = 1, length: int = 2048, rank: int = 16, processes: int = 1, **changes: Any
) -> Workload:
    """On a GPU in bfloat16 with gradient checkpointing, all tokens targets, `batch` rows of `length` on each of
    `processes` under FSDP2; `changes`: of Computation."""
    rows = RowFigures(longest=length, mean=float(length), shared_prefix=0, target_token_share=1.0, validation=0, test=0)
    compute: dict[str, Any] = {
        "batch": batch,
        "accumulation": 1,
        "steps": 100,
        "eval_every": 100,
        "rank": rank,
        "adapted": method != "full",
        "four_bit": method == "qlora",
        "dtype": "bfloat16",
        "narrow_base": method == "lora",
        "checkpointing": True,
        "on_cpu": False,
        "fused_head": True,
        "processes": processes,
        "sharded": processes > 1,
    }
    return Workload(rows, Computation(**compute | changes))
