"""Memory and time of a run before anything is loaded: shapes in, bytes and seconds out.

Every formula counts what autograd keeps for the backward pass, tensor by tensor, as in Korthikanti et al. 2022
(arXiv:2205.05198, section 4.1), here for frozen weights with adapters beside them: a frozen linear module keeps no
input, an adapter's A keeps one (peft/tuners/lora/layer.py:Linear.forward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from train.shapes import ModelShape

ADAM_BYTES = 8  # two float32 moments a parameter (Kingma & Ba 2015, arXiv:1412.6980)
MEBIBYTE = 2**20
RUNTIME_BYTES = 150 * MEBIBYTE


@dataclass(frozen=True)
class Workload:
    """What one training asks: rows a micro-batch, tokens of the longest and of the mean row, and how they are computed."""

    batch: int
    longest: int
    mean: float
    taught_share: float
    steps: int
    accumulation: int
    validation_rows: int
    test_rows: int
    rank: int
    adapted: bool
    four_bit: bool
    dtype: Literal["float32", "bfloat16"]
    narrow_base: bool
    checkpointing: bool
    attention_dropout: bool

    @property
    def tokens(self) -> int:
        """Of the largest micro-batch."""
        return self.batch * self.longest

    @property
    def width(self) -> int:
        """Bytes of what a matrix product gives."""
        return 2 if self.dtype == "bfloat16" else 4


def adapter_parameters(shape: ModelShape, rank: int) -> int:
    """A (rank x inputs) and B (outputs x rank) beside every linear module of every layer (arXiv:2106.09685, section 4.1)."""
    return shape.layers * sum(rank * (inputs + outputs) for inputs, outputs in shape.linears)


def trained_parameters(shape: ModelShape, load: Workload) -> int:
    return adapter_parameters(shape, load.rank) if load.adapted else shape.parameters


def weight_bytes(shape: ModelShape, load: Workload) -> int:
    """The base in memory: 4 bits with their scales (arXiv:2305.14314, section 3: 4.127 bits), bfloat16, or float32."""
    if load.four_bit:
        dense = shape.parameters - shape.linear_parameters
        return int(shape.linear_parameters * 4.127 / 8) + 2 * dense
    return shape.parameters * (2 if load.narrow_base else 4)


def layer_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by one layer for one token."""
    return decoder_layer_bytes(shape, load) if shape.family == "decoder" else encoder_layer_bytes(shape, load)


def decoder_layer_bytes(shape: ModelShape, load: Workload) -> int:
    """transformers/models/llama/modeling_llama.py. Both norms keep a float32 input, SwiGLU keeps gate, its activation and up."""
    hidden, inner, width = shape.hidden, shape.intermediate, shape.heads * shape.head_size
    norms = 2 * 4 * hidden
    attention = load.width * (2 * width + 2 * shape.key_value_width)
    return norms + attention + 3 * load.width * inner + adapter_inputs(shape, load, shared=hidden + hidden + inner)


def encoder_layer_bytes(shape: ModelShape, load: Workload) -> int:
    """transformers/models/bert/modeling_bert.py. Dropout in the attention takes torch's plain path, in float32 on a CPU:
    softmax, its mask and their product are kept for every pair of tokens (aten/src/ATen/native/transformers/attention.cpp:_scaled_dot_product_attention_math)."""
    hidden, inner, width = shape.hidden, shape.intermediate, shape.heads * shape.head_size
    pairs = (12 if load.attention_dropout else 0) * shape.heads * load.longest
    attention = (4 if load.attention_dropout else load.width) * 3 * width
    norms, masks, gelu = 2 * 4 * hidden, 2 * load.width * hidden, load.width * inner
    return pairs + attention + norms + masks + gelu + adapter_inputs(shape, load, shared=hidden + width + hidden + inner)


def adapter_inputs(shape: ModelShape, load: Workload, shared: int) -> int:
    """Each A's input and output. Under autocast every module casts its input for itself; in float32 modules with one input share it (`shared` elements)."""
    inputs = sum(inputs for inputs, _ in shape.linears) if load.width == 2 else shared
    return load.width * (inputs + len(shape.linears) * load.rank * load.adapted)


def activation_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by all layers for the largest micro-batch; with checkpointing each layer's input and one layer whole (arXiv:1604.06174)."""
    kept = layer_bytes(shape, load)
    if load.checkpointing:
        return load.tokens * (shape.layers * shape.hidden * (2 if load.narrow_base else 4) + kept)
    return load.tokens * shape.layers * kept


def cast_bytes(shape: ModelShape, load: Workload) -> int:
    """Autocast's bfloat16 copy of a float32 weight is kept for the backward pass through it (torch/amp/autocast_mode.py)."""
    return 2 * shape.linear_parameters if load.dtype == "bfloat16" and not load.narrow_base and not load.four_bit else 0


def logits_bytes(shape: ModelShape, load: Workload) -> int:
    """Logits, log-probabilities and both gradients of the taught tokens, float32 (transformers/loss/loss_utils.py:ForCausalLMLoss)."""
    if shape.family == "encoder":
        return 0
    taught = math.ceil(load.tokens * load.taught_share)
    return taught * shape.vocabulary * (12 + load.width)


def training_memory(shape: ModelShape, load: Workload) -> dict[str, int]:
    """Bytes by what holds them; `peak` is the most at one moment: loading, or the start of a backward pass."""
    trained = trained_parameters(shape, load)
    parts = {
        "weights": weight_bytes(shape, load),
        "adapter": 4 * trained * load.adapted,
        "gradients": 4 * trained,
        "optimizer": ADAM_BYTES * trained,
        "activations": activation_bytes(shape, load),
        "casts": cast_bytes(shape, load),
        "logits": logits_bytes(shape, load),
        "runtime": RUNTIME_BYTES,
    }
    loading = parts["weights"] + shape.stored_bytes
    return parts | {"peak": max(loading, sum(parts.values()))}
