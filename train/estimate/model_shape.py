"""The shape of a base model, read from config.json and safetensors headers (or config.json alone) or from GGUF
metadata: no weights, no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from configs.errors import InputError
from configs.run.base import gguf_config
from configs.run.family import EXPERTS, TEXT_PARTS, is_gated, kind_of, size_of, text_config
from configs.run.gguf import read_gguf_header
from infra.files.atomic import read_json

HEADER_LIMIT = 100_000_000  # safetensors' own (safetensors/src/tensor.rs:MAX_HEADER_SIZE)


@dataclass(frozen=True)
class ModelShape:
    """Counts of one model; `parameters` is what the file holds, `stored_bytes` its size, `stored_width` bytes a
    parameter once dense."""

    family: Literal["decoder", "encoder"]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    parameters: int
    stored_bytes: int
    stored_width: int
    tied: bool
    capped: bool = False  # Gemma 2's final_logit_softcapping
    gated: bool | None = None  # gate, up and down; or up and down; None: as Llama and BERT have it
    float16: bool = False  # stored in it: held in float32 while it is trained
    experts: int = 0  # of a layer of a mixture, each as wide as `intermediate`; 0: it is dense
    active_experts: int = 0  # that one token goes through

    @property
    def key_value_width(self) -> int:
        return self.key_value_heads * self.head_size

    @property
    def attention(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of q, k, v and o of one layer."""
        width = self.heads * self.head_size
        return [
            (self.hidden, width),
            (self.hidden, self.key_value_width),
            (self.hidden, self.key_value_width),
            (width, self.hidden),
        ]

    @property
    def feed_forward(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of gate, up, down (or up, down) of one layer, or of one expert."""
        gated = self.family == "decoder" if self.gated is None else self.gated
        return [(self.hidden, self.intermediate)] * (2 if gated else 1) + [(self.intermediate, self.hidden)]

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the linear modules of one layer; experts are none (transformers 5 holds all of a layer
        in one parameter, models/mixtral/modeling_mixtral.py:MixtralExperts)."""
        return self.attention if self.experts else [*self.attention, *self.feed_forward]

    @property
    def linear_parameters(self) -> int:
        return self.layers * weights_of(self.linears)

    @property
    def expert_parameters(self) -> int:
        return self.layers * self.experts * weights_of(self.feed_forward)

    @property
    def active_parameters(self) -> int:
        """Weights multiplied for every token, the head and the embedding apart."""
        return self.linear_parameters + self.layers * self.active_experts * weights_of(self.feed_forward)

    @property
    def outer_parameters(self) -> int:
        """Around the layers: embedding and head."""
        return self.parameters - self.linear_parameters - self.expert_parameters


def weights_of(linears: list[tuple[int, int]]) -> int:
    return sum(inputs * outputs for inputs, outputs in linears)


def read_shape(source: Path) -> ModelShape:
    """Of a directory, a GGUF file, or a config.json whose weights are not here. Raises InputError where the
    architecture is none that can be planned."""
    try:
        if source.suffix == ".json":
            return read_config(read_json(source) or {})
        return read_gguf(source) if source.suffix == ".gguf" else read_directory(source)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source}: no shape that can be planned: {type(error).__name__}: {error}",
            hint="tunegate prepare CONFIG",
        ) from error


def read_directory(directory: Path) -> ModelShape:
    whole = read_json(directory / "config.json") or {}
    config, is_part = text_config(whole), whole.get("model_type") in TEXT_PARTS
    files = sorted(directory.glob("model*.safetensors"))
    tensors = [tensor for file in files for tensor in read_header(file, "language_model" if is_part else "")]
    shape = shape_of(
        config,
        kind_of(whole),
        parameters=sum(count for count, _ in tensors),
        stored_bytes=sum(file.stat().st_size for file in files),
        stored_width=min(width for count, width in tensors if count > 1),
        tied=bool(whole.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
    )
    return replace(shape, gated=is_gated(whole), float16=is_float16(files[0]))


def read_config(whole: Mapping[str, Any]) -> ModelShape:
    """Of a config.json whose weights are not here: its matrices and norms, without biases."""
    config = text_config(whole)
    tied = bool(whole.get("tie_word_embeddings", config.get("tie_word_embeddings", True)))
    width = 4 if str(config.get("dtype") or config.get("torch_dtype") or "float32") == "float32" else 2
    shape = shape_of(config, kind_of(whole), parameters=0, stored_bytes=0, stored_width=width, tied=tied)
    shape = replace(shape, gated=is_gated(whole), float16="float16" in (config.get("dtype"), config.get("torch_dtype")))
    norms = shape.hidden + shape.layers * (2 * shape.hidden + shape.experts * shape.hidden)  # the router's with them
    outer = shape.vocabulary * shape.hidden * (1 if tied else 2)
    parameters = shape.linear_parameters + shape.expert_parameters + outer + norms
    return replace(shape, parameters=parameters, stored_bytes=width * parameters)


def read_gguf(file: Path) -> ModelShape:
    """Dense it becomes bfloat16 (train/model/base.py:convert_gguf)."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return shape_of(
        gguf_config(read_gguf_header(file)) | {"vocab_size": shapes["token_embd.weight"][1]},
        "decoder",
        parameters=parameters,
        stored_bytes=2 * parameters,
        stored_width=2,
        tied="output.weight" not in shapes,
    )


def shape_of(
    config: Mapping[str, Any],
    family: Literal["decoder", "encoder"],
    *,
    parameters: int,
    stored_bytes: int,
    stored_width: int,
    tied: bool,
) -> ModelShape:
    """`config`: sizes by their transformers names. Raises KeyError, TypeError or ValueError where one is missing."""
    heads, hidden = size_of(config, "num_attention_heads"), size_of(config, "hidden_size")
    experts = next((int(config[name]) for name in EXPERTS if config.get(name)), 0)
    inner = config.get("moe_intermediate_size") if experts else None
    return ModelShape(
        family=family,
        hidden=hidden,
        intermediate=int(inner or size_of(config, "intermediate_size")),
        layers=size_of(config, "num_hidden_layers"),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        parameters=parameters,
        stored_bytes=stored_bytes,
        stored_width=stored_width,
        tied=tied,
        capped=config.get("final_logit_softcapping") is not None,
        experts=experts,
        active_experts=int(config["num_experts_per_tok"]) if experts else 0,
    )


def header_of(file: Path) -> dict[str, Any]:
    """By tensor: 8 bytes of length, then JSON (huggingface.co/docs/safetensors, Format)."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        header: dict[str, Any] = json.loads(stream.read(length)) if length < HEADER_LIMIT else {}
    return {name: tensor for name, tensor in sorted(header.items()) if name != "__metadata__"}


def is_float16(file: Path) -> bool:
    """Of its first tensor, as train/model/dtype.py asks."""
    return next((bool(tensor["dtype"] == "F16") for tensor in header_of(file).values()), False)


def read_header(file: Path, part: str = "") -> list[tuple[int, int]]:
    """(elements, bytes an element) of each tensor whose name holds `part`."""
    found = [
        (math.prod(tensor["shape"]), tensor["data_offsets"]) for name, tensor in header_of(file).items() if part in name
    ]
    return [(count, (end - begin) // count) for count, (begin, end) in found if count]
