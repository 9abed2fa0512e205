"""Base weights: found by train/model/find_base.py, made once into build/base/NAME, a plain release directory."""

from __future__ import annotations

import re
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.digest import key_of
from configs.errors import InputError, RefusedError
from configs.release import MANIFEST, Manifest, digest_of, list_files, read_manifest, verify_release
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.task import served_task
from infra.files.atomic import new_directory, write_text
from infra.files.hashes import FileHashes
from infra.git.command import head_revision
from train.model.added_tokens import extend_base, extended_folder
from train.model.base_files import weight_files
from train.model.fast_tokenizer import settle_tokenizer
from train.model.find_base import Found, find_weights, folders_of

LIBRARIES = ("torch", "transformers", "peft", "trl", "llmcompressor", "compressed-tensors", "tokenizers", "safetensors")
KEPT = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|tekken)\.json"
    r"|(vocab|merges)\.txt|chat_template\.jinja|additional_chat_templates/[^/]+\.jinja|.*\.model"
    r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)


def make_base(config: RunConfig, root: Path = Path("build/base")) -> Path:
    """build/base/NAME, made on the first call, its bytes those that base.digest pins. Weights are linked, not copied,
    and hashed once. With base.add_tokens it is the folder beside it that has them.

    Raises InputError, RefusedError or ExternalError as `find_weights`, InputError where its tokenizer cannot be made a
    fast one, and RefusedError where the digest differs.
    """
    plain, tokens = make_plain_base(config, root), config.base.add_tokens
    return make_extended_base(plain, config) if tokens else plain


def make_extended_base(plain: Path, config: RunConfig) -> Path:
    """The folder beside `plain` with base.add_tokens; InputError where one of them is a token already."""
    origin, tokens = read_manifest(plain), config.base.add_tokens
    target = extended_folder(plain, origin.digest, tokens)
    if not (target / MANIFEST).exists():
        extend_base(plain, target, tokens)
        version = f"{origin.base['version']} with {len(tokens)} more token{'s' if len(tokens) > 1 else ''}"
        hashes = FileHashes()
        write_manifest(target, config, origin.base["name"], Found(plain, version, []), origin.digest, hashes)
        hashes.keep()
    return target


def make_plain_base(config: RunConfig, root: Path) -> Path:
    """build/base/NAME as it came."""
    base, hashes = config.base, FileHashes()
    target = root / base.folder.name
    if target.is_symlink():  # to another base of this name
        target.unlink()
    downloads = target.with_name(f".{target.name}.download")
    if not (base.pin and is_current(target, base, base.pin, "", hashes)):  # a pinned name needs no look elsewhere
        found = find_weights(base, downloads)
        described = "" if base.pin else describe_source(found.source)
        if not is_current(target, base, found.version, described, hashes):
            with new_directory(target) as partial:
                if found.source.suffix == ".gguf":
                    convert_gguf(found.source, partial)
                else:
                    bring_files(found.source, partial, hashes, stays=base.mlflow is None)
                settle_tokenizer(partial)
                manifest = write_manifest(partial, config, base.name, found, described, hashes)
                check_digest(base, manifest.digest)
            if found.passed_by:
                print(f"{target}: passed by {', '.join(found.passed_by)}", file=sys.stderr)
            shutil.rmtree(downloads, ignore_errors=True)
    hashes.keep()
    name_latest(root / base.name, target)
    return target


def name_latest(plain: Path, target: Path) -> None:
    """build/base/NAME leads people to the base that was made last of those of this name; no stage reads by it."""
    if plain == target or (plain.exists() and not plain.is_symlink()):
        return
    if not plain.is_symlink() or plain.readlink() != Path(target.name):
        plain.unlink(missing_ok=True)
        plain.symlink_to(target.name)


def is_current(target: Path, base: BaseWeights, version: str, described: str, hashes: FileHashes) -> bool:
    """Made from these very bytes, and whole: bytes that changed are made anew."""
    try:
        manifest = verify_release(target, hash_file=hashes.sha256_of)
    except (InputError, RefusedError, OSError):
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


def bring_files(source: Path, target: Path, hashes: FileHashes, stays: bool) -> None:
    """Weights as links, the small files as copies. `stays`: the source is there as long as its owner likes, so that
    where no hard link can be (another file system, another owner) a symbolic one will do."""
    for name, file in kept_files(source).items():
        (target / name).parent.mkdir(exist_ok=True)
        if file.suffix == ".safetensors":
            link(file, target / name, hashes, stays)
        else:
            shutil.copyfile(file, target / name)


def link(file: Path, target: Path, hashes: FileHashes, stays: bool) -> None:
    hashes.sha256_of(file)
    try:
        hashes.link(file, target)
    except OSError:
        if stays:
            target.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, target)


def kept_files(source: Path) -> dict[str, Path]:
    """Name in the base to file: what a model and its tokenizer need."""
    weights = weight_files(source)
    found: dict[str, Path] = {}
    for folder in reversed(folders_of(source)):  # what lies beside the weights wins
        files = sorted([*folder.glob("*"), *folder.glob("additional_chat_templates/*")])
        names = {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}
        found |= {
            name: file
            for name, file in names.items()
            if file in weights or (KEPT.fullmatch(name) and file.suffix != ".safetensors")
        }
    return found


def describe_source(source: Path) -> str:
    """Changes when a file does that the base is made of."""
    files = {source.name: source} if source.is_file() else kept_files(source)
    return key_of([(name, file.stat().st_size, file.stat().st_mtime_ns) for name, file in sorted(files.items())])


def write_manifest(
    directory: Path, config: RunConfig, name: str, found: Found, described: str, hashes: FileHashes
) -> Manifest:
    files = list_files(directory, hashes.sha256_of)
    manifest = Manifest(
        name=re.sub(r"[^a-z0-9._-]", "-", f"base-{name}".lower()),
        digest=digest_of(files),
        task=served_task(config.task),
        files=files,
        serving=Serving(),
        base={"name": name, "version": found.version, "source": described, "passed_by": ", ".join(found.passed_by)},
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
