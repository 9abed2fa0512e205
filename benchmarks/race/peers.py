"""How each peer is told what ours is told: its YAML, its environment, and one run of its own command."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.prove import console

PEERS = ("llama-factory", "axolotl")
NAMES = {"llama-factory": "LLaMA-Factory", "axolotl": "axolotl", "tunegate": "tunegate"}
# Defaults made for a GPU, which this machine would be held back by, or stopped by; not counted as keys.
FOR_A_CPU: dict[str, dict[str, Any]] = {
    "axolotl": {
        **dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"), False),
        **dict.fromkeys(("bf16", "fp16", "tf32"), False),  # bfloat16, its default, is emulated here: minutes a step
    },
    "llama-factory": {"disable_gradient_checkpointing": True},
}
# The columns of OpenAI's messages, as LLaMA-Factory's own data/README has them.
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
MESSAGES = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": TAGS}
CHAT = {"ds_type": "json", "type": "chat_template"}


def axolotl(base: Path, rows: Path, dataset: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    """The one YAML of a LoRA on every linear layer."""
    return {
        "base_model": str(base),
        "datasets": [{"path": str(rows), **dataset}],
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_linear": True,
        "gradient_accumulation_steps": 1,
        **train,
    }


def llama_factory(base: Path, dataset_dir: Path, train: dict[str, Any]) -> dict[str, Any]:
    """The YAML of a LoRA on every linear layer (its default target); dataset_info.json is the other half."""
    return {
        "model_name_or_path": str(base),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "dataset_dir": str(dataset_dir),
        "dataset": "rows",
        "template": "smollm2",
        **train,
    }


def write(path: Path, config: dict[str, Any]) -> None:
    """JSON is YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1), encoding="utf8")


def count_keys(config: Any) -> int:
    """Keys that hold a value: a mapping that only holds others is none."""
    if isinstance(config, dict):
        return sum(map(count_keys, config.values()))
    if isinstance(config, list) and any(isinstance(item, dict) for item in config):
        return sum(map(count_keys, config))
    return 1


def python_of(peer: str) -> Path:
    return Path("build/race").absolute() / peer / "bin/python"


def versions(peer: str) -> str:
    """Of the peer, and of the libraries below it that decide about speed."""
    lock = Path(f"requirements/race-{peer}.txt").read_text(encoding="utf8")
    pins = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock))
    below = ", ".join(f"{name} {pins[name]}" for name in ("transformers", "peft", "torch"))
    return f"{NAMES[peer]} {pins[peer.replace('-', '')]} ({below})"


def run_inside(peer: str, what: str, folder: Path, *more: str) -> None:
    """benchmarks/race/inside.py in the peer's environment, which knows nothing of ours and asks no network."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(Path("build/race/datasets").absolute()),
        "AXOLOTL_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "TQDM_DISABLE": "1",
    }
    command = [str(python_of(peer)), "-P", str(Path("benchmarks/race/inside.py").absolute()), peer, what, str(folder)]
    console.print(f"[bold]$ {' '.join(command)}", soft_wrap=True)
    log = folder / f"{peer}.log"
    with log.open("w", encoding="utf8") as words:
        done = subprocess.run([*command, *more], env=environment, cwd=folder, stdout=words, stderr=words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {log}")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of Markdown."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines]
