"""Part `train`: bfloat16 LoRA of a Llama-3.1-8B-shaped model with random weights, rows of 2,048 tokens, by tunegate, by
plain peft with Trainer and SDPA, by TRL with packing and Liger, and QLoRA by tunegate."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import prove
from benchmarks.gpu.rows import MISSED, write_row
from benchmarks.gpu.shapes import LLAMA_8B, ROPE, TINY, flops_per_token
from benchmarks.models.servability import byte_tokenizer
from benchmarks.prove import run

FOLDER = prove.FOLDER / "gpu/train"  # relative, as the YAMLs of a checkout must be
EVERY, STEPS, BATCH = 4, 12, 2  # the first `EVERY` steps warm up and are not counted
SHARE, QLORA_GIB = 0.5, 12.0
PEERS = {"plain": 1.5, "trl": 1.0}  # how many times theirs ours must be
NEEDS = {"tunegate": (), "plain": (), "trl": ("trl", "liger_kernel"), "qlora": ("bitsandbytes",)}
NAMES = {"run.yaml": "prove-gpu", "run-qlora.yaml": "prove-gpu-qlora"}


def main(tiny: bool) -> int:
    shape, tokens = (TINY, 128) if tiny else (LLAMA_8B, 2048)
    ceiling = matrix_flops(512 if tiny else 8192)
    write_row("train", "matrix ceiling", round(ceiling / 1e12, 1), unit="TFLOP/s, bfloat16")
    write_base(FOLDER / "base", shape)
    prepare(tokens, not tiny)
    speeds: dict[str, float] = {}
    held = True
    for arm in ("tunegate", "plain", "trl", "qlora"):
        if why := missing(arm):
            write_row("train", arm, None, why=why)
            continue
        point = measure(arm, tokens)
        if point is None:
            held &= write_row("train", arm, "broke", "an end", holds=False)
            continue
        speeds[arm] = point["tokens_per_second"]
        # Not of QLoRA: its products are of weights that it unpacks first.
        share = speeds[arm] * flops_per_token(shape, tokens) / ceiling
        write_row("train", arm, round(speeds[arm], 1), unit="tokens/s", share_of_ceiling=round(share, 3), **point)
        if arm == "tunegate":
            held &= write_row("train", "share of the ceiling", round(share, 3), f">= {SHARE}", share >= SHARE)
        elif arm == "qlora":
            peak = point["peak_gib"]
            held &= write_row("train", "qlora peak", peak, f"<= {QLORA_GIB:g} GiB", peak <= QLORA_GIB)
        elif "tunegate" in speeds:
            ratio = speeds["tunegate"] / speeds[arm]
            held &= write_row("train", f"against {arm}", round(ratio, 2), f">= {PEERS[arm]}", ratio >= PEERS[arm])
    return 0 if held else MISSED


def missing(arm: str) -> str | None:
    """What this machine lacks for an arm."""
    import torch

    absent = [name for name in NEEDS[arm] if importlib.util.find_spec(name) is None]
    if arm == "trl" and not torch.cuda.is_available():
        absent = [name for name in absent if name != "liger_kernel"]
    if arm == "qlora" and not torch.cuda.is_available():
        return "qlora needs a GPU"
    return f"not here: {', '.join(absent)}" if absent else None


def measure(arm: str, tokens: int) -> dict[str, Any] | None:
    """Tokens a second after warming up, peak GiB by PyTorch's allocator, loss; with one row a step where two do not
    fit. None where it broke."""
    for batch in (BATCH, 1):
        write_settings(tokens, batch)
        for name in NAMES.values():
            shutil.rmtree(f"build/{name}/trained", ignore_errors=True)
            shutil.rmtree(f"build/{name}/adapter", ignore_errors=True)
        target, log = FOLDER / f"{arm}.json", FOLDER / f"{arm}.log"
        target.unlink(missing_ok=True)
        with log.open("wb") as stream:
            words = [sys.executable, "-m", "benchmarks.gpu.arms", arm, str(FOLDER), str(target)]
            code = subprocess.run(words, stdout=stream, stderr=stream).returncode
        if code == 0:
            points = {point["step"]: point for point in json.loads(target.read_text(encoding="utf8"))}
            first, last = points[EVERY], points[STEPS]
            speed = (STEPS - EVERY) * batch * tokens / (last["seconds"] - first["seconds"])
            return {"tokens_per_second": speed, "batch": batch, "peak_gib": last["peak_gib"], "loss": last["loss"]}
        end = log.read_text(encoding="utf8", errors="replace")
        write_row("train", f"{arm} with {batch} rows a step", f"exit code {code}", log=end[-600:])
        if "OutOfMemoryError" not in end:
            return None
    return None


def write_base(folder: Path, shape: dict[str, int]) -> None:
    """Random bfloat16 weights as safetensors in files of 2 GB, which are hashed side by side; made once."""
    if (folder / "tokenizer.json").exists():
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer: Any = byte_tokenizer()
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.pad_token_id}
    sizes: dict[str, Any] = {**shape, "rope_parameters": ROPE, **ends}
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        settings = LlamaConfig(**sizes)
        model: Any = LlamaForCausalLM._from_config(settings, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save_pretrained(folder)


def prepare(tokens: int, qlora: bool) -> None:
    """Texts of random letters, one byte a token, each row as long as it may be; one epoch of them is the whole
    training."""
    generator, (training, validation, test) = random.Random(17), (STEPS * BATCH, 2, 2)
    lines = [
        json.dumps({"text": "".join(generator.choices(string.ascii_letters, k=tokens - 1))})
        for _ in range(training + validation + test)
    ]
    (FOLDER / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    (FOLDER / "gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")
    write_settings(tokens, BATCH)
    for name in ["run.yaml", *(["run-qlora.yaml"] if qlora else [])]:
        run(sys.executable, "tunegate.py", "prepare", str(FOLDER / name))
    from configs.paths import RunPaths
    from train.batches.collate import labels_of
    from train.data.prepared import read_tokens

    paths = RunPaths.of(NAMES["run.yaml"])
    for name in ("train", "validation"):
        rows = [{"input_ids": row["input_ids"], "labels": labels_of(row)} for row in read_tokens(paths, name)]
        (FOLDER / f"{name}.json").write_text(json.dumps(rows), encoding="utf8")


def write_settings(tokens: int, batch: int) -> None:
    """Of every arm: settings.json is the peers', the YAMLs are ours."""
    settings = {"base": str(FOLDER / "base"), "steps": STEPS, "every": EVERY, "batch": batch, "tokens": tokens}
    (FOLDER / "settings.json").write_text(json.dumps(settings), encoding="utf8")
    for file, method in (("run.yaml", "lora"), ("run-qlora.yaml", "qlora")):
        config = {
            "name": NAMES[file],
            "task": "causal-lm",
            "base": {"path": (FOLDER / "base").as_posix()},
            "gate": (FOLDER / "gate.yaml").as_posix(),
            "data": {
                "source": "files",
                "files": [(FOLDER / "texts.jsonl").as_posix()],
                "max_tokens": tokens,
                "validation_rows": 2,
                "test_rows": 2,
            },
            "train": {
                "method": method,
                "max_steps": STEPS,
                "batch_size": batch,
                "learning_rate": 1e-3,
                "eval_every_steps": STEPS,
                "warmup_ratio": 0.0,
                "dtype": "auto",
                "lora": {"rank": 16, "alpha": 32},
            },
            "quantize": {"scheme": "none"},
            "serving": {"max_model_len": tokens},
        }
        (FOLDER / file).write_text(json.dumps(config), encoding="utf8")


def matrix_flops(size: int) -> float:
    """The device's own bfloat16 matrix product of size x size, operations a second: the median of ten timings of ten
    products, after warming up, random data."""
    import torch

    gpu = torch.cuda.is_available()
    one, other = (torch.randn(size, size, device="cuda" if gpu else "cpu", dtype=torch.bfloat16) for _ in range(2))
    repeats, seconds = (10 if gpu else 1), []
    for _ in range(13):
        started = time.perf_counter()
        for _ in range(repeats):
            one @ other
        if gpu:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / repeats)
    return 2 * size**3 / sorted(seconds[3:])[5]


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
