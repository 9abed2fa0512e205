"""Adapter in, release out: merged, quantized, with golden prompts, card and manifest; whole or absent."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.release import ALLOWED_SUFFIXES, MANIFEST, Manifest, digest_of, list_files, read_manifest, verify_release
from configs.schema import RunConfig, served_task
from infra.git import head_revision
from infra.tokenizer import load_tokenizer
from train.adapter import load_trained, trained_key
from train.atomic import key_of, new_directory, read_json, write_json, write_text
from train.base import library_versions, make_base, weights_size
from train.card import write_card
from train.golden import write_golden
from train.prepare import read_card, read_split

# vLLM builds the pooler and the heads as plain linear layers, which cannot hold INT8 (vllm/model_executor/models/bert.py).
UNQUANTIZED = ["lm_head", "re:.*pooler.*", "re:.*classifier.*", "re:.*score.*"]


def quantize(config: RunConfig, paths: RunPaths) -> Manifest:
    """The release's manifest. Raises InputError before `train`. A second call with the same adapter does nothing."""
    base, card, training = make_base(config), read_card(paths), read_training(paths)
    key = key_of(config.model_dump(), trained_key(paths.adapter), read_manifest(base).digest, card["fingerprint"])
    finished = read_finished(config, paths, key)
    if finished is not None:
        return finished
    model, tokenizer = merge(config, base, paths.adapter, card["labels"])
    stored = stored_dtype(base)
    with new_directory(paths.parent) as parent, new_directory(paths.release) as partial:
        model.save_pretrained(parent)
        tokenizer.save_pretrained(parent)
        settle(parent, stored)
        write_golden(config, model, tokenizer, read_split(paths, "validation"), parent / "golden.jsonl")
        if config.quantize.scheme == "int8":
            compress(model, partial)
            settle(partial, stored)
            add_missing(parent, partial)
        else:
            shutil.copytree(parent, partial, dirs_exist_ok=True)
        sizes = {"size_bytes": weights_size(partial), "parent_size_bytes": weights_size(parent)}
        write_text(partial / "README.md", write_card(config, card, training, read_manifest(base).base, sizes))
        write_manifest(parent, config, base, card, {"scheme": "none", "size_bytes": sizes["parent_size_bytes"], "key": key})
        manifest = write_manifest(partial, config, base, card, {"scheme": config.quantize.scheme, **sizes, "key": key})
    if not config.quantize.compare_parent:
        shutil.rmtree(paths.parent)
    return manifest


def read_training(paths: RunPaths) -> dict[str, Any]:
    record = read_json(paths.adapter / "training.json")
    if record is None:
        raise InputError(f"{paths.adapter}/training.json: missing", hint="tunegate train CONFIG")
    return record


def read_finished(config: RunConfig, paths: RunPaths, key: str) -> Manifest | None:
    """The release of this very key, if it (and the parent, where wanted) is there and whole."""
    wanted = [paths.release, paths.parent] if config.quantize.compare_parent else [paths.release]
    try:
        manifests = [verify_release(directory) for directory in wanted]
    except (InputError, RefusedError):
        return None
    return manifests[0] if all(manifest.quantization.get("key") == key for manifest in manifests) else None


def merge(config: RunConfig, base: Path, adapter: Path, labels: list[str]) -> tuple[Any, Any]:
    """Merged in float32, then rounded to the dtype that the base is stored in: the golden answers are those of the stored bytes."""
    merged, stored = load_trained(config, base, adapter, labels), stored_dtype(base)
    for parameter in merged.parameters():
        parameter.data = parameter.data.to(stored).float()
    return merged.eval(), load_tokenizer(base)


def stored_dtype(directory: Path) -> Any:
    """The torch dtype of the first tensor of the safetensors."""
    from safetensors import safe_open

    with safe_open(min(directory.glob("*.safetensors")), framework="pt") as tensors:
        return tensors.get_tensor(sorted(tensors.keys())[0]).dtype


def compress(model: Any, target: Path) -> None:
    """INT8 W8A8 without calibration data: weights per channel, activations per token at run time."""
    from llmcompressor import oneshot  # type: ignore[attr-defined]  # lazy exports
    from llmcompressor.modifiers.quantization import QuantizationModifier

    with redirect_stderr(io.StringIO()):  # bars of a millisecond, and a warning about memory that is not short
        oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme="W8A8", ignore=UNQUANTIZED), log_dir=None)
        model.config._name_or_path = ""  # else the base's own config.json is written over the model's, its head and labels lost (resave_config)
        model.save_pretrained(target, save_compressed=True)


def settle(directory: Path, dtype: Any) -> None:
    """Unquantized weights go back to the dtype they came in (exact: they were rounded to it); scales stay float32."""
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


def add_missing(parent: Path, target: Path) -> None:
    """Tokenizer, chat template and golden prompts are the parent's own."""
    for file in sorted(parent.iterdir()):
        if file.suffix != ".safetensors" and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)


def write_manifest(directory: Path, config: RunConfig, base: Path, card: dict[str, Any], quantization: dict[str, Any]) -> Manifest:
    """Last of all: a directory without it is no release."""
    files, origin = list_files(directory), read_manifest(base)
    manifest = Manifest(
        name=config.name,
        digest=digest_of(files),
        task=served_task(config.task),
        problem=config.problem,
        files=files,
        serving=config.serving,
        labels=card["labels"],
        base={"name": origin.base["name"], "version": origin.base["version"], "digest": origin.digest},
        data={"fingerprint": card["fingerprint"], "test_fingerprint": card["test_fingerprint"]},
        quantization=quantization,
        git_revision=head_revision(),
        versions=library_versions(),
        config=config.model_dump(mode="json"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest
