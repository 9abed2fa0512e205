"""The base weights' shape, read from its config.json or its GGUF header: no torch, no weights."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.run.base import BaseWeights


def input_columns(base: BaseWeights, root: Path) -> set[int] | None:
    """Input columns of the layers that quantization takes, as transformers names sizes; None where the base is not here to be read."""
    found = read_config(base, root)
    if found is None:
        return None
    hidden, heads = found.get("hidden_size"), found.get("num_attention_heads")
    attention = found["head_dim"] * heads if found.get("head_dim") and heads else hidden
    return {int(size) for size in (hidden, attention, found.get("intermediate_size")) if size} or None


def read_config(base: BaseWeights, root: Path) -> dict[str, Any] | None:
    """The directory's or the package's own config.json, else that of the base made by an earlier run, else the package's GGUF header."""
    own = [root / base.path] if base.path else [file.parent for file in packaged(base.package, ".safetensors")]
    for folder in [*own, root / "build" / "base" / base.name]:
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    headers = packaged(base.package, ".gguf")
    return read_gguf(headers[0]) if headers else None


def packaged(package: str | None, ending: str) -> list[Path]:
    if package is None:
        return []
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(distribution.locate_file(file))) for file in distribution.files or [] if str(file).endswith(ending)]


def read_gguf(path: Path) -> dict[str, Any]:
    """Sizes by their transformers names (ggml/docs/gguf.md: embedding_length, feed_forward_length, attention.head_count)."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    architecture = fields["general.architecture"].contents()
    names = {"hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count"}
    return {ours: fields[f"{architecture}.{theirs}"].contents() for ours, theirs in names.items() if f"{architecture}.{theirs}" in fields}
