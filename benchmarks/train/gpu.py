"""One GPU: bfloat16 LoRA of a Llama-3.1-8B-shaped model with random weights, rows of 2,048 tokens, by plain peft with
Trainer and by tunegate.

.venv/bin/python -m benchmarks.train.gpu          # 16 GB of weights are made under build/prove/gpu; prints JSON lines
.venv/bin/python -m benchmarks.train.gpu --tiny   # the same way with a model of a few layers, on a CPU too
"""

from __future__ import annotations

import json
import random
import shutil
import string
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.models.servability import byte_tokenizer
from benchmarks.prove import FOLDER, run

STEPS, BATCH, GOAL = 10, 4, 0.5
# Llama-3.1-8B's config.json (Meta, 2024), sizes only.
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 8192,
}


def main(tiny: bool) -> int:
    folder, tokens = FOLDER / "gpu", 128 if tiny else 2048
    shape = TINY if tiny else LLAMA_8B
    write_base(folder / "base", shape)
    rows = prepare(folder, tokens)
    ceiling, points = matrix_flops(1024 if tiny else 8192), {}
    for arm in ("plain", "tunegate"):
        shutil.rmtree("build/prove-gpu/trained", ignore_errors=True)
        run(
            sys.executable,
            "-m",
            "benchmarks.train.arms",
            arm,
            str(folder),
            str(folder / f"{arm}.json"),
            environment={"TQDM_DISABLE": "1"},
        )
        points[arm] = json.loads((folder / f"{arm}.json").read_text(encoding="utf8"))[-1]
    total = sum(len(row["input_ids"]) for row in rows)
    speeds = {arm: total / point["seconds"] for arm, point in points.items()}
    share = speeds["tunegate"] * flops_per_token(shape, tokens) / ceiling
    for arm, point in points.items():
        print(
            json.dumps(
                {
                    "name": arm,
                    "tokens_per_second": round(speeds[arm], 1),
                    "peak_gib": point["peak_gib"],
                    "loss": point["loss"],
                }
            )
        )
    print(
        json.dumps(
            {
                "device": device_name(),
                "matrix_tflops": ceiling / 1e12,
                "share_of_ceiling": share,
                "ratio": speeds["tunegate"] / speeds["plain"],
            }
        )
    )
    return int(share < GOAL)


def write_base(folder: Path, shape: dict[str, int]) -> None:
    """Random bfloat16 weights as safetensors; made once."""
    if (folder / "tokenizer.json").exists():
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer: Any = byte_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    sizes: dict[str, Any] = {
        **shape,
        "rope_parameters": rope,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        settings = LlamaConfig(**sizes)
        model: Any = LlamaForCausalLM._from_config(settings, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare(folder: Path, tokens: int) -> list[dict[str, list[int]]]:
    """Texts of random letters, one byte a token, each row as long as it may be; one epoch of them is the whole
    training."""
    generator, (training, validation, test) = random.Random(17), (STEPS * BATCH, 2, 2)
    lines = [
        json.dumps({"text": "".join(generator.choices(string.ascii_letters, k=tokens - 1))})
        for _ in range(training + validation + test)
    ]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    (folder / "gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")
    config = {
        "name": "prove-gpu",
        "task": "causal-lm",
        "base": {"path": (folder / "base").as_posix()},
        "gate": (folder / "gate.yaml").as_posix(),
        "data": {
            "source": "files",
            "files": [(folder / "texts.jsonl").as_posix()],
            "max_tokens": tokens,
            "validation_rows": validation,
            "test_rows": test,
        },
        "train": {
            "max_steps": STEPS,
            "batch_size": BATCH,
            "learning_rate": 1e-3,
            "eval_every_steps": STEPS,
            "warmup_ratio": 0.0,
            "dtype": "auto",
            "lora": {"rank": 16, "alpha": 32},
        },
        "quantize": {"scheme": "none"},
        "serving": {"max_model_len": tokens},
    }
    (folder / "run.yaml").write_text(json.dumps(config), encoding="utf8")
    run(str(Path(sys.executable).with_name("tunegate")), "prepare", str(folder / "run.yaml"))
    from configs.paths import RunPaths
    from train.batches.collate import labels_of
    from train.data.prepared import read_tokens

    paths = RunPaths.of("prove-gpu")
    encoded = {
        name: [{"input_ids": row["input_ids"], "labels": labels_of(row)} for row in read_tokens(paths, name)]
        for name in ("train", "validation")
    }
    for name, rows in encoded.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf8")
    settings = {"base": str(folder / "base"), "steps": STEPS, "every": STEPS, "batch": BATCH}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf8")
    return encoded["train"]


def flops_per_token(shape: dict[str, int], tokens: int) -> float:
    """Multiplications and additions of forward and backward where only LoRA learns: 4 a weight (2 forward, 2 for the
    inputs' gradients; frozen weights have none), and causal attention's two products, half of tokens x hidden each,
    three times (Kaplan 2020, section 2.1; Chowdhery 2022, B)."""
    hidden, heads, kv = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * hidden * kv // heads + 3 * hidden * shape["intermediate_size"]
    weights = shape["num_hidden_layers"] * layer + hidden * shape["vocab_size"]
    return 4 * weights + 3 * shape["num_hidden_layers"] * 2 * 2 * hidden * tokens / 2


def matrix_flops(size: int) -> float:
    """The device's own bfloat16 matrix product of size x size, the best of ten, operations a second."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronize()
        started = time.perf_counter()
        one @ other
        synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
