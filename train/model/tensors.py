"""What the headers of safetensors files say: names and shapes, no numbers, no torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

HEADER_LIMIT = 100_000_000  # safetensors' own (safetensors/src/tensor.rs:MAX_HEADER_SIZE)
POINTER = b"version https://git-lfs"


def read_shapes(file: Path) -> dict[str, list[int]]:
    """Tensor to shape: 8 bytes of length, then JSON (huggingface.co/docs/safetensors, Format). Raises ValueError that
    says what the file is where it is no whole safetensors file."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if not start:
            raise ValueError("no bytes at all")
        if POINTER.startswith(start):
            raise ValueError("a Git LFS pointer in place of the file (git lfs pull)")
        length = struct.unpack("<Q", start.ljust(8, b"\0"))[0]
        if length >= HEADER_LIMIT:
            raise ValueError("no safetensors header")
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        shapes = {name: [int(size) for size in tensor["shape"]] for name, tensor in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            "no safetensors header" if len(text) == length else "a file that ends in its header"
        ) from error
    missing = 8 + length + end - file.stat().st_size
    if missing > 0:
        raise ValueError(f"{missing:,} bytes too few")
    return shapes
