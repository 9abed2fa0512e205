"""Safetensors files written by hand: a header, and as many zeros as it says."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path


def write_weights(path: Path, shapes: dict[str, list[int]] | None = None) -> Path:
    """float32 tensors of these shapes."""
    header, end = {}, 0
    for name, shape in (shapes or {"weight": [2, 2]}).items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def write_model(folder: Path, **config: object) -> Path:
    """A whole model directory: weights, config.json, tokenizer.json."""
    write_weights(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | config))
    (folder / "tokenizer.json").write_text("{}")
    return folder
