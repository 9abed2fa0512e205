"""Memory and time of a run before anything is loaded: shapes in, bytes and seconds out.

Every formula counts what autograd keeps for the backward pass, tensor by tensor, as in Korthikanti et al. 2022
(arXiv:2205.05198, section 4.1), here for frozen weights with adapters beside them: a frozen linear module keeps no
input, an adapter's A keeps one (train/layers/lora.py; peft/tuners/lora/layer.py:Linear.forward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from train.batches.collate import HEAD_ROWS
from train.estimate.model_shape import ModelShape

ADAM_BYTES = 8  # two float32 moments a parameter (Kingma & Ba 2015, arXiv:1412.6980)
MEBIBYTE = 2**20
RUNTIME_BYTES = 67 * MEBIBYTE  # rows, threads, kernels: what a training of SmolLM2 held beyond all that is counted here
# glibc's heap keeps freed blocks between live ones: measured as a share of what a step keeps, on a CPU. With
# MALLOC_MMAP_THRESHOLD_
# fixed at 128 KiB it is none, for many page faults more.
HEAP_SHARE = 0.27
GPU_RUNTIME_BYTES = 1024 * MEBIBYTE  # CUDA context, kernels and workspaces: an assumption, not measured
SCHEME_BITS = {
    "none": None,
    "int8": 8,
    "fp8": 8,
    "w4a16": 4.25,
    "adapter": None,
}  # w4a16: a 16-bit scale for each group of 64 weights or so


@dataclass(frozen=True)
class Workload:
    """What one training asks: rows a micro-batch, tokens of the longest and of the mean row, and how they are computed.

    `padding`: share of a micro-batch's positions that are none of its rows'.
    """

    batch: int
    longest: int
    mean: float
    shared: int
    target_token_share: float
    steps: int
    accumulation: int
    eval_every: int
    validation_rows: int
    test_rows: int
    rank: int
    adapted: bool
    four_bit: bool
    dtype: Literal["float32", "bfloat16"]
    narrow_base: bool
    checkpointing: bool
    on_cpu: bool
    fused_head: bool
    padding: float = 0.0

    @property
    def row_tokens(self) -> float:
        """Computed for a row on average: padding counts, what its micro-batch shares counts once."""
        return self.mean / (1 - self.padding) - self.shared * (self.batch - 1) / self.batch

    @property
    def forward_share(self) -> float:
        """Of a step's work: a frozen weight is multiplied once more backward, a trained one twice more."""
        return 1 / 2 if self.adapted else 1 / 3

    @property
    def tokens(self) -> int:
        """Of the largest micro-batch; what its rows begin with alike comes once (train.batches.flatten)."""
        return self.batch * self.longest - self.shared * (self.batch - 1)

    @property
    def width(self) -> int:
        """Bytes of what a matrix product gives."""
        return 2 if self.dtype == "bfloat16" else 4


def adapter_parameters(shape: ModelShape, rank: int) -> int:
    """A (rank x inputs) and B (outputs x rank) beside every linear module of every layer (arXiv:2106.09685, section
    4.1)."""
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
    """transformers/models/llama/modeling_llama.py. Both norms keep a float32 input, SwiGLU keeps gate, its activation
    and up."""
    hidden, inner, width = shape.hidden, shape.intermediate, shape.heads * shape.head_size
    norms = 2 * 4 * hidden
    attention = load.width * (2 * width + 2 * shape.key_value_width)
    return norms + attention + 3 * load.width * inner + adapter_inputs(shape, load)


def encoder_layer_bytes(shape: ModelShape, load: Workload) -> int:
    """transformers/models/bert/modeling_bert.py. Dropout takes a CPU down the plain path of attention, in float32:
    softmax, its mask and their product are kept for every pair of tokens
    (aten/src/ATen/native/transformers/attention.cpp:_scaled_dot_product_attention_math).
    """
    hidden, inner, width = shape.hidden, shape.intermediate, shape.heads * shape.head_size
    pairs = (12 if load.on_cpu else 0) * shape.heads * load.longest
    attention = (4 if load.on_cpu else load.width) * 3 * width
    norms, masks, gelu = 2 * 4 * hidden, 2 * load.width * hidden, load.width * inner
    return pairs + attention + norms + masks + gelu + adapter_inputs(shape, load)


def adapter_inputs(shape: ModelShape, load: Workload) -> int:
    """Each A's input and output. In float32 q, k and v share one, as gate and up do. Under autocast peft casts for each
    module; where train.fused joins them the cast is shared as well, so that this is an upper bound there.
    """
    shared = 2 * shape.hidden + shape.heads * shape.head_size + shape.intermediate
    inputs = sum(inputs for inputs, _ in shape.linears) if load.width == 2 else shared
    return load.width * (inputs + len(shape.linears) * load.rank * load.adapted)


def activation_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by all layers for the largest micro-batch; with checkpointing each layer's input and one layer whole
    (arXiv:1604.06174)."""
    kept = layer_bytes(shape, load)
    if load.checkpointing:
        return load.tokens * (shape.layers * shape.hidden * (2 if load.narrow_base else 4) + kept)
    return load.tokens * shape.layers * kept


def cast_bytes(shape: ModelShape, load: Workload) -> int:
    """Autocast's bfloat16 copies of float32 weights, adapters among them, are kept for the backward pass through them
    (torch/amp/autocast_mode.py)."""
    if load.dtype == "float32":
        return 0
    base = 0 if load.narrow_base or load.four_bit else shape.linear_parameters
    return 2 * (base + load.adapted * adapter_parameters(shape, load.rank))


def logits_bytes(shape: ModelShape, load: Workload) -> int:
    """Logits, log-probabilities and both gradients of the taught tokens, float32
    (transformers/loss/loss_utils.py:ForCausalLMLoss); train.head's few rows."""
    if shape.family == "encoder":
        return 0
    taught = math.ceil(load.batch * load.longest * load.target_token_share)
    if load.fused_head:
        return 4 * min(taught, HEAD_ROWS) * shape.vocabulary
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
        "runtime": RUNTIME_BYTES if load.on_cpu else GPU_RUNTIME_BYTES,
    }
    parts["heap"] = int(HEAP_SHARE * (parts["activations"] + parts["casts"] + parts["logits"])) if load.on_cpu else 0
    loading = parts["weights"] + shape.stored_bytes + parts["runtime"]
    return parts | {"peak": max(loading, sum(parts.values()))}


def quantizing_memory(shape: ModelShape) -> dict[str, int]:
    """train/quantize.py: the merged model in float32, its saved file read back, and that rounded to the stored
    width."""
    parts = {
        "merged": 4 * shape.parameters,
        "read_back": 4 * shape.parameters,
        "rounded": shape.stored_width * shape.parameters,
        "runtime": RUNTIME_BYTES,
    }
    return parts | {"peak": sum(parts.values())}


def serving_memory(shape: ModelShape, scheme: str, dtype_width: int, kv_cache_gib: int) -> dict[str, int]:
    """vLLM: quantized linear modules, the rest in the serving dtype, the cache that the config reserves;
    `cached_tokens` fit into it (no bytes)."""
    bits = SCHEME_BITS[scheme]
    dense = dtype_width * (shape.parameters - shape.linear_parameters)
    linear = int(shape.linear_parameters * bits / 8) if bits else dtype_width * shape.linear_parameters
    cache = kv_cache_gib * 2**30 if shape.family == "decoder" else 0
    return {
        "weights": dense + linear,
        "kv_cache": cache,
        "peak": dense + linear + cache,
        "cached_tokens": cache // key_value_bytes(shape, dtype_width),
    }


def key_value_bytes(shape: ModelShape, dtype_width: int) -> int:
    """Of one token: a key and a value in each layer (Kwon et al. 2023, arXiv:2309.06180, section 3)."""
    return 2 * shape.layers * shape.key_value_width * dtype_width
