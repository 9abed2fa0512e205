"""Memory of a run before anything is loaded: shapes in, bytes out.

Every formula counts what autograd keeps for the backward pass, tensor by tensor, as in Korthikanti et al. 2022
(arXiv:2205.05198, section 4.1), here for frozen weights with adapters beside them: a frozen linear module keeps no
input, an adapter's A keeps one (train/layers/lora.py; peft/tuners/lora/layer.py:Linear.forward).
"""

from __future__ import annotations

import math

from train.batches.collate import HEAD_ROWS
from train.estimate.model_shape import ModelShape
from train.estimate.workload import Workload

FLOAT32, BFLOAT16 = 4, 2  # bytes of a number
ADAM_BYTES = 2 * FLOAT32  # two moments a parameter (Kingma & Ba 2015, arXiv:1412.6980)
NF4_BITS = 4.127  # a weight with its share of the scales (arXiv:2305.14314, section 3)
MEBIBYTE = 2**20
RUNTIME_BYTES = 67 * MEBIBYTE  # rows, threads, kernels: what a training of SmolLM2 held beyond all that is counted here
# glibc's heap keeps freed blocks between live ones: measured as a share of what a step keeps, on a CPU. With
# MALLOC_MMAP_THRESHOLD_ fixed at 128 KiB it is none, for many page faults more.
HEAP_SHARE = 0.27
GPU_RUNTIME_BYTES = 1024 * MEBIBYTE  # CUDA context, kernels and workspaces: an assumption, not measured
# w4a16: with a 16-bit scale for each group of 64 weights or so
SCHEME_BITS = {"none": None, "int8": 8, "fp8": 8, "w4a16": 4.25, "adapter": None}


def adapter_parameters(shape: ModelShape, rank: int) -> int:
    """A (rank x inputs) and B (outputs x rank) beside every linear module of every layer (arXiv:2106.09685, section
    4.1)."""
    return shape.layers * sum(rank * (inputs + outputs) for inputs, outputs in shape.linears)


def trained_parameters(shape: ModelShape, load: Workload) -> int:
    return adapter_parameters(shape, load.compute.rank) if load.compute.adapted else shape.parameters


def base_width(load: Workload) -> int:
    """Bytes in which a weight of the base is held, where it is not packed in 4 bits."""
    return BFLOAT16 if load.compute.narrow_base else FLOAT32


def weight_bytes(shape: ModelShape, load: Workload) -> int:
    """The base in memory: its linear modules in 4 bits and the rest in bfloat16, or all of it in one dtype."""
    if load.compute.four_bit:
        dense = shape.parameters - shape.linear_parameters
        return int(shape.linear_parameters * NF4_BITS / 8) + BFLOAT16 * dense
    return shape.parameters * base_width(load)


def layer_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by one layer for one token."""
    kept = decoder_layer(shape, load) if shape.family == "decoder" else encoder_layer(shape, load)
    return sum(kept.values()) + adapter_bytes(shape, load)


def decoder_layer(shape: ModelShape, load: Workload) -> dict[str, int]:
    """Bytes a token of what transformers/models/llama/modeling_llama.py keeps, by tensor."""
    width, heads = load.compute.width, shape.heads * shape.head_size
    return {
        "attention norm's input": FLOAT32 * shape.hidden,
        "queries": width * heads,
        "keys": width * shape.key_value_width,
        "values": width * shape.key_value_width,
        "attention's output": width * heads,
        "feed-forward norm's input": FLOAT32 * shape.hidden,
        "gate": width * shape.intermediate,
        "gate's activation": width * shape.intermediate,
        "up": width * shape.intermediate,
    }


def encoder_layer(shape: ModelShape, load: Workload) -> dict[str, int]:
    """Bytes a token of what transformers/models/bert/modeling_bert.py keeps, by tensor.

    Dropout takes a CPU down the plain path of attention, in float32: there softmax, its mask and their product are kept
    for every pair of tokens (aten/src/ATen/native/transformers/attention.cpp:_scaled_dot_product_attention_math).
    """
    width, heads = load.compute.width, shape.heads * shape.head_size
    attention_width = FLOAT32 if load.compute.on_cpu else width
    pair = FLOAT32 * shape.heads * load.rows.longest if load.compute.on_cpu else 0
    return {
        "softmax": pair,
        "dropout mask of the softmax": pair,
        "softmax after dropout": pair,
        "queries": attention_width * heads,
        "keys": attention_width * heads,
        "values": attention_width * heads,
        "attention norm's input": FLOAT32 * shape.hidden,
        "feed-forward norm's input": FLOAT32 * shape.hidden,
        "dropout mask after attention": width * shape.hidden,
        "dropout mask after feed-forward": width * shape.hidden,
        "GELU's input": width * shape.intermediate,
    }


def adapter_bytes(shape: ModelShape, load: Workload) -> int:
    """Of one token: the inputs of the adapters' A and of their B.

    In float32 q, k and v share the input of their A, as gate and up do. Under autocast peft casts for each module;
    where train/layers/lora.py joins them the cast is shared as well, so that this is an upper bound there.
    """
    for_each = sum(inputs for inputs, _ in shape.linears)
    shared = sum(
        (
            shape.hidden,  # of q, k and v
            shape.heads * shape.head_size,  # of the attention's output
            shape.hidden,  # of gate and up
            shape.intermediate,  # of down
        )
    )
    of_a = for_each if load.compute.width == BFLOAT16 else shared
    of_b = len(shape.linears) * load.compute.rank if load.compute.adapted else 0
    return load.compute.width * (of_a + of_b)


def activation_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by all layers for the largest micro-batch; with checkpointing each layer's input and one layer whole
    (arXiv:1604.06174)."""
    kept = layer_bytes(shape, load)
    if load.compute.checkpointing:
        layer_inputs = shape.layers * shape.hidden * base_width(load)
        return load.tokens * (layer_inputs + kept)
    return load.tokens * shape.layers * kept


def cast_bytes(shape: ModelShape, load: Workload) -> int:
    """Autocast's bfloat16 copies of float32 weights, adapters among them, are kept for the backward pass through them
    (torch/amp/autocast_mode.py)."""
    compute = load.compute
    if compute.dtype == "float32":
        return 0
    base = 0 if compute.narrow_base or compute.four_bit else shape.linear_parameters
    adapters = adapter_parameters(shape, compute.rank) if compute.adapted else 0
    return BFLOAT16 * (base + adapters)


def logits_bytes(shape: ModelShape, load: Workload) -> int:
    """Of the target tokens, as transformers/loss/loss_utils.py:ForCausalLMLoss computes them; with the fused head
    (train/layers/linear_cross_entropy.py) the logits of a few at a time."""
    if shape.family == "encoder":
        return 0
    targets = math.ceil(load.compute.batch * load.rows.longest * load.rows.target_token_share)
    if load.compute.fused_head:
        multiplied = 0 if load.compute.dtype == "float32" else load.compute.width
        return (FLOAT32 + multiplied) * min(targets, HEAD_ROWS) * shape.vocabulary
    number = {
        "logits": load.compute.width,
        "log-probabilities": FLOAT32,
        "gradient of the log-probabilities": FLOAT32,
        "gradient of the logits": FLOAT32,
    }
    return targets * shape.vocabulary * sum(number.values())


def training_memory(shape: ModelShape, load: Workload) -> dict[str, int]:
    """Bytes by what holds them; `peak` is the most at one moment: loading, or the start of a backward pass."""
    trained, on_cpu = trained_parameters(shape, load), load.compute.on_cpu
    parts = {
        "weights": weight_bytes(shape, load),
        "adapter": FLOAT32 * trained if load.compute.adapted else 0,
        "gradients": FLOAT32 * trained,
        "optimizer": ADAM_BYTES * trained,
        "activations": activation_bytes(shape, load),
        "casts": cast_bytes(shape, load),
        "logits": logits_bytes(shape, load),
        "runtime": RUNTIME_BYTES if on_cpu else GPU_RUNTIME_BYTES,
    }
    parts["heap"] = int(HEAP_SHARE * (parts["activations"] + parts["casts"] + parts["logits"])) if on_cpu else 0
    loading = parts["weights"] + shape.stored_bytes + parts["runtime"]
    return parts | {"peak": max(loading, sum(parts.values()))}


def quantizing_memory(shape: ModelShape) -> dict[str, int]:
    """train/quantize.py: the merged model in float32, its saved file read back, and that rounded to the stored
    width."""
    parts = {
        "merged": FLOAT32 * shape.parameters,
        "read_back": FLOAT32 * shape.parameters,
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
    key = value = shape.key_value_width * dtype_width
    return shape.layers * (key + value)
