"""How fast this machine is at one layer of a base: random weights of its shape, forward and backward, in a process of
its own.

Run as `python -m train.estimate.probe JSON`; it prints seconds a token as JSON. `tunegate check` itself never imports
torch.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from configs.digest import key_of, sha256_of
from configs.errors import ExternalError
from infra.files.atomic import read_json, write_json
from train.batches.collate import HEAD_ROWS
from train.estimate.duration import Rates
from train.estimate.model_shape import ModelShape
from train.estimate.workload import Workload

MOST_TOKENS = 1024  # seconds grow with the tokens from here on
ROUNDS = 5
DECODED_TOGETHER = 16
FRESH_SECONDS = 3600.0  # who shares this machine changes by the hour: its speed was seen to fall by 40% within three
LAYERS = (2, 4)  # more than one processor's cache holds
TIMED = Path(__file__).parents[1] / "layers"


class Question(TypedDict):
    """What is to be timed: a micro-batch of `batch` rows of `length` tokens; `narrow`: over a base in bfloat16;
    `rank`: of the adapters, None where every weight learns."""

    shape: dict[str, Any]
    batch: int
    length: int
    dtype: str
    narrow: bool
    rank: int | None


def measure_rates(shape: ModelShape, load: Workload, cache: Path = Path("build/preflight")) -> Rates:
    """Measured once an hour for this shape, micro-batch, processor and code. Raises ExternalError where the training
    environment is not here."""
    compute, length = load.compute, min(MOST_TOKENS, max(1, round(load.row_tokens)))
    asked: Question = {
        "shape": asdict(shape),
        "batch": max(1, min(compute.batch, MOST_TOKENS // length)),
        "length": length,
        "dtype": compute.dtype,
        "narrow": compute.narrow_base,
        "rank": compute.rank if compute.adapted else None,
    }
    code = [sha256_of(path) for path in (Path(__file__), *sorted(TIMED.glob("*.py")))]  # another is measured anew
    path = cache / f"{key_of(asked, processor(), code)[:16]}.json"
    found = read_json(path)
    if found is None or time.time() - path.stat().st_mtime > FRESH_SECONDS:
        run = subprocess.run(
            [sys.executable, "-m", "train.estimate.probe", json.dumps(asked)], capture_output=True, text=True
        )
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["no word"])[-1]
            raise ExternalError(
                f"the speed of this machine cannot be measured: {last}",
                hint="make setup   (or name a device: --device h100-80gb)",
            )
        found = json.loads(run.stdout.rstrip("\n").split("\n")[-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return Rates(**found)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    return next((line for line in lines if line.startswith("model name")), "") + str(
        sum(line.startswith("processor") for line in lines)
    )


def probe(asked: Question) -> dict[str, float]:
    """The larger model less the smaller, so that what a model does once does not count; the head by itself."""
    import torch

    shape, tokens = ModelShape(**asked["shape"]), asked["batch"] * asked["length"]
    narrow, fast, rank = asked["narrow"], asked["dtype"] == "bfloat16", asked["rank"]
    trained, decoded = [], []
    for layers in LAYERS:
        few = replace(shape, layers=layers, vocabulary=256)
        model = build_layers(few, rank, torch.bfloat16 if narrow else torch.float32)
        ids = torch.randint(0, 255, (asked["batch"], asked["length"]))
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, fused=True)
        trained.append(typical(partial(step, model, ids, fast, optimizer)))
        decoded.append(typical(partial(forward, model, ids[:1, :1].expand(DECODED_TOGETHER, 1))))
    head = torch.randn(shape.vocabulary, shape.hidden, requires_grad=rank is None)
    hidden = torch.randn(HEAD_ROWS, shape.hidden)
    layer, decoded_layer = ((times[1] - times[0]) / (LAYERS[1] - LAYERS[0]) for times in (trained, decoded))
    head_seconds = typical(lambda: train_head(head.bfloat16() if narrow else head, hidden, fast))
    decode_head_seconds = typical(lambda: torch.nn.functional.linear(hidden[:DECODED_TOGETHER], head))
    return {
        "layer_seconds_per_token": max(layer, 0.0) / tokens,
        "once_seconds_per_token": max(trained[0] - LAYERS[0] * layer, 0.0) / tokens,
        "head_seconds_per_token": head_seconds / HEAD_ROWS,
        "decode_layer_seconds": max(decoded_layer, 0.0) / DECODED_TOGETHER,
        "decode_head_seconds": decode_head_seconds / DECODED_TOGETHER,
    }


def build_layers(shape: ModelShape, rank: int | None, dtype: Any) -> Any:
    """`rank`: of the adapters; without one every weight learns."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, BertConfig, LlamaConfig

    from train.layers.lora import fuse_adapters

    sizes: Any = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": 131_072 if shape.family == "decoder" else 8192,
    }
    if shape.family == "decoder":
        config: Any = LlamaConfig(**sizes, num_key_value_heads=shape.key_value_heads, head_dim=shape.head_size)
    else:
        config = BertConfig(**sizes)
    model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    if rank is None:
        return model.train()
    adapted = get_peft_model(model.to(dtype), LoraConfig(r=rank, target_modules="all-linear")).train()
    fuse_adapters(adapted)
    return adapted


def step(model: Any, ids: Any, fast: bool, optimizer: Any) -> None:
    """As transformers' Trainer takes one: loss, gradients clipped, AdamW."""
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        loss = model(input_ids=ids).last_hidden_state.float().mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def forward(model: Any, ids: Any) -> None:
    import torch

    with torch.no_grad():
        model(input_ids=ids)


def train_head(head: Any, hidden: Any, fast: bool) -> None:
    import torch

    from train.layers.linear_cross_entropy import HeadLoss

    hidden, targets = hidden.detach().requires_grad_(), torch.zeros(len(hidden), dtype=torch.long)
    if not (fast or head.requires_grad):
        HeadLoss.apply(hidden, head, targets).backward()  # type: ignore[no-untyped-call]
        return
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        logits = torch.nn.functional.linear(hidden, head)
    loss: Any = torch.nn.functional.cross_entropy(logits.float(), targets)
    loss.backward()


def typical(work: Callable[[], Any]) -> float:
    """Seconds, the median of some rounds after a first."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    print(json.dumps(probe(json.loads(sys.argv[1]))))
