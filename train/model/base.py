"""Base weights: found by train/model/find_base.py, made once into build/base/NAME, a plain release directory."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.errors import InputError, RefusedError
from configs.release import MANIFEST, Manifest, digest_of, list_files, read_manifest, verify_release
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.task import Task, served_task
from infra.files.atomic import new_directory, write_text
from infra.git.command import head_revision
from train.model.added_tokens import extend_base, extended_folder
from train.model.find_base import find_weights, folders_of

LIBRARIES = ("torch", "transformers", "peft", "trl", "llmcompressor", "compressed-tensors", "tokenizers", "safetensors")
KEPT = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json"
    r"|(vocab|merges)\.txt|chat_template\.jinja|.*\.model|model.*\.safetensors(\.index\.json)?"
)


def make_base(config: RunConfig, root: Path = Path("build/base")) -> Path:
    """build/base/NAME, made on the first call, its bytes those that base.digest pins; with base.add_tokens the folder
    beside it that has them.

    Raises InputError, RefusedError or ExternalError as `find_weights`, and RefusedError where the digest
    differs.
    """
    plain, tokens = make_plain_base(config, root), config.base.add_tokens
    return make_extended_base(plain, tokens, served_task(config.task)) if tokens else plain


def make_extended_base(plain: Path, tokens: list[str], task: Task) -> Path:
    origin = read_manifest(plain)
    target = extended_folder(plain, origin.digest, tokens)
    if not (target / MANIFEST).exists():
        extend_base(plain, target, tokens)
        version = f"{origin.base['version']} with {len(tokens)} more token{'s' if len(tokens) > 1 else ''}"
        write_manifest(target, origin.base["name"], task, version, origin.digest)
    return target


def make_plain_base(config: RunConfig, root: Path) -> Path:
    """build/base/NAME as it came."""
    base = config.base
    target, downloads = root / base.name, root / f".{base.name}.download"
    if base.pin and is_current(target, base, base.pin, ""):  # a pinned name needs no look at the far side
        return target
    source, version = find_weights(base, downloads)
    described = "" if base.pin else describe_source(source)
    if is_current(target, base, version, described):
        return target
    with new_directory(target) as partial:
        if source.suffix == ".gguf":
            convert_gguf(source, partial)
        else:
            copy_weights(source, partial)
        check_digest(base, write_manifest(partial, target.name, served_task(config.task), version, described).digest)
    shutil.rmtree(downloads, ignore_errors=True)
    return target


def is_current(target: Path, base: BaseWeights, version: str, described: str) -> bool:
    """Made from these very bytes, and whole: bytes that changed are made anew."""
    try:
        manifest = verify_release(target)
    except (InputError, RefusedError):
        return False
    if manifest.base.get("version") != version or manifest.base.get("source") != described:
        return False
    check_digest(base, manifest.digest)
    return True


def check_digest(base: BaseWeights, found: str) -> None:
    if base.digest not in (None, found):
        hint = "find out why they changed before you pin the new digest"
        raise RefusedError(f"base.digest: found {found}, expected {base.digest}: these are other weights", hint=hint)


def convert_gguf(source: Path, target: Path) -> None:
    """Packed GGUF blocks become dense tensors in bfloat16; without `dequantize` they can be neither saved nor
    trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    fix_special_tokens(tokenizer, model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def fix_special_tokens(tokenizer: Any, model: Any) -> None:
    """transformers reads SmolLM2's GGUF with the turn's opening token as its end, and no padding: training would never
    learn to stop."""
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id


def copy_weights(source: Path, target: Path) -> None:
    for folder in reversed(folders_of(source)):  # what lies beside the weights wins
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if file.is_file() and KEPT.fullmatch(file.name):
                shutil.copyfile(file, target / file.name)


def describe_source(source: Path) -> str:
    files = [source] if source.is_file() else sorted(file for file in source.glob("*.safetensors"))
    return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def write_manifest(directory: Path, name: str, task: Task, version: str, described: str) -> Manifest:
    files = list_files(directory)
    manifest = Manifest(
        name=re.sub(r"[^a-z0-9._-]", "-", f"base-{name}".lower()),
        digest=digest_of(files),
        task=task,
        files=files,
        serving=Serving(),
        base={"name": name, "version": version, "source": described},
        data={},
        quantization={"scheme": "none", "size_bytes": weights_size(directory)},
        git_revision=head_revision(),
        versions=library_versions(),
        config={},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def weights_size(directory: Path) -> int:
    """Bytes of the safetensors files."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def library_versions() -> dict[str, str]:
    found = {
        distribution.metadata["Name"].lower(): distribution.version
        for name in LIBRARIES
        for distribution in metadata.distributions(name=name)
    }
    return dict(sorted(found.items()))
