"""Release: a directory of safetensors, tokenizer, golden prompts, manifest and card, named NAME@DIGEST.

The digest is the identity: sha256 over the sorted list of (path, size, sha256) of every file but the
manifest itself. Nothing is served whose bytes do not match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from configs.digest import hash_files, sha256_of
from configs.errors import InputError, RefusedError
from configs.run.serving import Serving
from configs.section import JsonObject, Section
from configs.task import Problem, Task

MANIFEST = "manifest.json"
ADAPTER = "lora"  # the folder of an unmerged adapter, in peft's own form
ALLOWED_SUFFIXES = {".safetensors", ".json", ".jsonl", ".jinja", ".txt", ".md", ".yaml", ".model"}


class ReleaseFile(Section):
    path: str
    size: int
    sha256: str


class Manifest(Section):
    """What a release is made of; written last, by `train`."""

    name: str
    digest: str = Field(description="sha256:<64 hex>")
    task: Task = Field(description="what it is served as: a preference run's release is a causal-lm")
    problem: Problem = "single_label"
    files: list[ReleaseFile]
    serving: Serving
    labels: list[str] = Field(default_factory=list, description="labels of a classifier or tags of a tagger, by index")
    base: dict[str, str] = Field(description="package or path, version, digest of the base weights")
    data: dict[str, str] = Field(description="fingerprint of all splits, test_fingerprint of the test rows")
    quantization: JsonObject = Field(description="scheme, size_bytes, parent_size_bytes")
    git_revision: str
    versions: dict[str, str]
    config: JsonObject = Field(description="the resolved RunConfig")
    created: str

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.digest}"

    @property
    def created_seconds(self) -> int:
        """`created` in seconds since 1970; 0 where it is no such time."""
        try:
            moment = datetime.fromisoformat(self.created)
            return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
        except (ValueError, OverflowError):
            return 0

    @property
    def adapter(self) -> str | None:
        """NAME@DIGEST12, by which a server knows the unmerged adapter; None where the weights are merged."""
        return f"{self.name}@{self.digest[7:19]}" if self.quantization.get("scheme") == "adapter" else None

    @property
    def adapter_rank(self) -> int:
        """The largest of its layers; 0 where the weights are merged."""
        return int(self.quantization.get("rank", 0))

    @property
    def adapter_layers(self) -> list[str]:
        """Their names, sorted, as vLLM takes them."""
        return list(self.quantization.get("layers", []))


def list_files(directory: Path, hash_file: Callable[[Path], str] = sha256_of) -> list[ReleaseFile]:
    """Every file of a release but the manifest, sorted by path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / MANIFEST)
    return [
        ReleaseFile(path=path.relative_to(directory).as_posix(), size=path.stat().st_size, sha256=digest)
        for path, digest in zip(paths, hash_files(paths, hash_file), strict=True)
    ]


def digest_of(files: list[ReleaseFile]) -> str:
    """The release digest over sorted (path, size, sha256)."""
    rows = sorted((file.path, file.size, file.sha256) for file in files)
    return "sha256:" + hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Raises InputError if `directory` holds no readable manifest."""
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise InputError(
            f"{directory}: no {MANIFEST}, so this is not a release", hint="tunegate quantize CONFIG"
        ) from None
    except ValidationError as error:
        raise InputError(
            f"{path}: not a manifest: {error.error_count()} problems", hint="tunegate quantize CONFIG"
        ) from error


def verify_release(
    directory: Path, expected_digest: str | None = None, hash_file: Callable[[Path], str] = sha256_of
) -> Manifest:
    """Raises RefusedError naming each file that differs, is missing or is extra.

    `hash_file`: by default every byte is read; what this machine has read already it may know (infra/files/hashes.py).
    """
    manifest = read_manifest(directory)
    found = {file.path: file for file in list_files(directory, hash_file)}
    stated = {file.path: file for file in manifest.files}
    problems = [f"{path}: missing" for path in sorted(stated.keys() - found.keys())]
    problems += [f"{path}: not in the manifest" for path in sorted(found.keys() - stated.keys())]
    problems += [
        f"{path}: sha256 {found[path].sha256[:12]}…, manifest says {stated[path].sha256[:12]}…"
        for path in sorted(found.keys() & stated.keys())
        if found[path] != stated[path]
    ]
    problems += [
        f"{path}: a file type that no release may hold"
        for path in sorted(found)
        if Path(path).suffix not in ALLOWED_SUFFIXES
    ]
    if not problems and digest_of(manifest.files) != manifest.digest:
        problems.append(f"{MANIFEST}: its digest is not that of its files")
    if not problems and expected_digest and manifest.digest != expected_digest:
        problems.append(f"digest {manifest.digest}, expected {expected_digest}")
    if problems:
        raise RefusedError(
            f"{directory}: the bytes do not match the manifest\n" + "\n".join(f"  {line}" for line in problems),
            hint=f"tunegate releases fetch {manifest.reference}",
        )
    return manifest


REFERENCE_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}@sha256:[0-9a-f]{64}$"


def short(reference: str | None) -> str:
    """NAME@DIGEST12; `-` for no release."""
    name, _, digest = (reference or "-").partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


class ReleaseUse(NamedTuple):
    """An environment that pins or runs a release, or once did (`needed` is then False); `switched` is when it last got
    the traffic there."""

    environment: str
    reference: str
    how: str
    needed: bool
    switched: str | None
