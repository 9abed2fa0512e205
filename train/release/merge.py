"""Adapter and base into one model: merged in float32, rounded to the stored dtype, saved as a server loads it, shard by
shard. Or side by side, unmerged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from configs.errors import RefusedError
from configs.release import ADAPTER, ALLOWED_SUFFIXES
from configs.run.config import RunConfig
from configs.run.family import OUTER_LAYERS
from infra.files.atomic import read_json, write_json
from infra.tokenizer import load_tokenizer
from train.model.adapter import load_trained
from train.release.generation import settle_generation
from train.tasks.reward import last_token, padding_beside

INDEX = ".safetensors.index.json"
SHARD_BYTES = 5_000_000_000  # of a file as it is first written: so much is read back at a time


def merge(config: RunConfig, base: Path, trained: Path, labels: list[str], dtype: Any = None) -> tuple[Any, Any]:
    """Model, merged in float32 and not yet rounded, but for a `dtype` in which it is held; and tokenizer."""
    model, tokenizer = load_trained(config, base, trained, labels, dtype).eval(), load_tokenizer(base)
    settle_generation(model, tokenizer)
    if config.task == "reward":  # else transformers takes the token at which the number is read for padding
        model.config.get_text_config().pad_token_id = padding_beside(tokenizer, last_token(base))
    return model, tokenizer


def round_weights(model: Any, dtype: Any) -> None:
    """In memory what it was, but every value one that `dtype` holds."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def save(model: Any, tokenizer: Any, target: Path, dtype: Any) -> None:
    model.save_pretrained(target, max_shard_size=SHARD_BYTES)
    tokenizer.save_pretrained(target)
    finalize_directory(target, dtype)


def finalize_directory(directory: Path, dtype: Any) -> None:
    """Unquantized weights go back to the dtype they came in; scales stay float32. Files that no release may hold are
    taken out."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    size = 0
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as found:
            metadata, tensors = found.metadata(), {name: found.get_tensor(name) for name in sorted(found.keys())}
        for name, tensor in tensors.items():
            if tensor.dtype == torch.float32 and not name.endswith("_scale"):
                tensors[name] = tensor.to(dtype)
        save_file(tensors, file, metadata=metadata)
        file.chmod(0o644)
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    for path in directory.glob(f"*{INDEX}"):
        index = read_json(path) or {}
        write_json(path, index | {"metadata": index.get("metadata", {}) | {"total_size": size}})
    write_json(
        directory / "config.json",
        (read_json(directory / "config.json") or {}) | {"dtype": str(dtype).removeprefix("torch.")},
    )
    for file in directory.rglob("*"):
        if file.is_file() and file.suffix not in ALLOWED_SUFFIXES:
            file.unlink()


def save_unmerged(base: Path, adapter: Path, target: Path) -> None:
    """The base's own bytes, equal in every release made from it, and the adapter beside them in lora/.

    Raises RefusedError for an adapter on the head or the embedding: there vLLM 0.32.0 dies of the first request for a
    prompt's log-probabilities.
    """
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as found:
        # no mapping
        layers = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in found.keys()})  # noqa: SIM118
    if outer := [name for name in layers if name in OUTER_LAYERS]:
        raise RefusedError(
            f"train.lora.target_modules: found {' and '.join(outer)}, "
            "expected layers inside the model with quantize.scheme adapter",
            hint="train.lora.target_modules: all-linear, or another quantize.scheme",
        )
    for file in sorted(base.iterdir()):
        if file.name.endswith((".safetensors", INDEX)) or file.name == "config.json":
            shutil.copyfile(file, target / file.name)
    (target / ADAPTER).mkdir()
    shutil.copyfile(adapter / "adapter_model.safetensors", target / ADAPTER / "adapter_model.safetensors")
    settings = read_json(adapter / "adapter_config.json") or {}
    # peft's own list is a set, in any order
    write_json(target / ADAPTER / "adapter_config.json", settings | {"target_modules": layers})


def complete(directory: Path, parent: Path) -> None:
    """Tokenizer, template and model config are the parent's own; of what llmcompressor wrote only its
    quantization_config is kept.

    llmcompressor writes the *base's* config.json, which knows nothing of this task's head:
    llmcompressor/transformers/compression/compressed_tensors_utils.py.
    """
    for file in sorted(parent.iterdir()):
        # an index of the parent's shards would name files that are not here
        is_weights = file.name.endswith((".safetensors", INDEX))
        if not is_weights and not (directory / file.name).exists():
            shutil.copyfile(file, directory / file.name)
    written = read_json(directory / "config.json") or {}
    kept = {key: written[key] for key in ("quantization_config", "tie_word_embeddings") if key in written}
    write_json(directory / "config.json", (read_json(parent / "config.json") or {}) | kept)
