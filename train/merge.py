"""Adapter and base into one model: merged in float32, rounded to the stored dtype, saved as a server loads it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from configs.release import ALLOWED_SUFFIXES
from configs.schema import RunConfig
from infra.tokenizer import load_tokenizer
from train.adapter import load_trained
from train.atomic import read_json, write_json
from train.hardware import stored_dtype


def merge(config: RunConfig, base: Path, adapter: Path, labels: list[str]) -> tuple[Any, Any]:
    """Model and tokenizer. Merged in float32, then rounded to the dtype that the base is stored in: the golden answers are those of the stored bytes."""
    merged = load_trained(config, base, adapter, labels)
    round_weights(merged, stored_dtype(base))
    return merged.eval(), load_tokenizer(base)


def round_weights(model: Any, dtype: Any) -> None:
    """Still float32 in memory, but every value one that `dtype` holds."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()


def save(model: Any, tokenizer: Any, target: Path, dtype: Any) -> None:
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    settle(target, dtype)


def settle(directory: Path, dtype: Any) -> None:
    """Unquantized weights go back to the dtype they came in; scales stay float32. Files that no release may hold are taken out."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as found:
            metadata, tensors = found.metadata(), {name: found.get_tensor(name) for name in sorted(found.keys())}
        rounded = {name: tensor.to(dtype) if tensor.dtype == torch.float32 and not name.endswith("_scale") else tensor for name, tensor in tensors.items()}
        save_file(rounded, file, metadata=metadata)
        file.chmod(0o644)
    write_json(directory / "config.json", (read_json(directory / "config.json") or {}) | {"dtype": str(dtype).removeprefix("torch.")})
    for file in directory.rglob("*"):
        if file.is_file() and file.suffix not in ALLOWED_SUFFIXES:
            file.unlink()


def complete(directory: Path, parent: Path) -> None:
    """Tokenizer, template and model config are the parent's own; of what llmcompressor wrote only its quantization_config is kept.

    llmcompressor writes the *base's* config.json, which knows nothing of this task's head: llmcompressor/transformers/compression/compressed_tensors_utils.py.
    """
    for file in sorted(parent.iterdir()):
        if file.suffix != ".safetensors" and not (directory / file.name).exists():
            shutil.copyfile(file, directory / file.name)
    written = read_json(directory / "config.json") or {}
    kept = {key: written[key] for key in ("quantization_config", "tie_word_embeddings") if key in written}
    write_json(directory / "config.json", (read_json(parent / "config.json") or {}) | kept)
