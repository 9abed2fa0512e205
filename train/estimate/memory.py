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
NF4_BITS = 4.127  # a weight with its share of the scales (arXiv:2305.14314, section 3)
MEBIBYTE = 2**20
HEAD_TILE = (4096, 32_768)  # tokens and words of the logits that a GPU holds at a time
RUNTIME_BYTES = 67 * MEBIBYTE  # rows, threads, kernels: what a training of SmolLM2 held beyond all that is counted here
# glibc's heap keeps freed blocks between live ones: measured as a share of what a step keeps, on a CPU. With
# MALLOC_MMAP_THRESHOLD_ fixed at 128 KiB it is none, for many page faults more.
HEAP_SHARE = 0.27
OPTIONAL = ("gathered", "merged experts", "backward", "heap")  # parts that many trainings are without
GPU_RUNTIME_BYTES = 1024 * MEBIBYTE  # CUDA context, kernels and workspaces: an assumption, not measured
# Of two moments a parameter; in 8 bits with a float32 scale for each 256 of them (Dettmers et al. 2021,
# arXiv:2110.02861). What is paged counts as if it were here. Adafactor keeps a row and a column of each matrix (Shazeer
# & Stern 2018, arXiv:1804.04235): of the narrow matrices of adapters no more than this.
OPTIMIZER_BYTES = {"adamw": 8.0, "paged_adamw": 8.0, "adamw_8bit": 2.04, "paged_adamw_8bit": 2.04, "adafactor": 1.0}


def adapter_parameters(shape: ModelShape, rank: int) -> int:
    """A (rank x inputs) and B (outputs x rank) beside every linear module of every layer (arXiv:2106.09685, section
    4.1). Of a mixture beside the router and every expert too; gate and up are one matrix there, of twice the rank
    (transformers/integrations/peft.py)."""
    of_linears = sum(rank * (inputs + outputs) for inputs, outputs in shape.linears)
    if not shape.experts:
        return shape.layers * of_linears
    of_router = rank * (shape.hidden + shape.experts)
    of_expert = 2 * rank * (shape.hidden + 2 * shape.intermediate) + rank * (shape.intermediate + shape.hidden)
    return shape.layers * (of_linears + of_router + shape.experts * of_expert)


def trained_parameters(shape: ModelShape, load: Workload) -> int:
    return adapter_parameters(shape, load.compute.rank) if load.compute.adapted else shape.parameters


def base_width(load: Workload) -> int:
    """Bytes in which a weight of the base is held, where it is not packed in 4 bits; of what goes from layer to layer
    too."""
    return BFLOAT16 if load.compute.narrow_base or load.compute.four_bit else FLOAT32


def weight_bytes(shape: ModelShape, load: Workload) -> int:
    """The base in memory: its linear modules in 4 bits and the rest in bfloat16, or all of it in one dtype. Experts are
    packed in none (transformers/quantizers/quantizer_bnb_4bit.py: linear modules alone)."""
    if load.compute.four_bit:
        dense = shape.parameters - shape.linear_parameters
        return int(shape.linear_parameters * NF4_BITS / 8) + BFLOAT16 * dense
    return shape.parameters * base_width(load)


def gathered_bytes(shape: ModelShape, load: Workload) -> int:
    """Whole on each process under FSDP2, at one moment: the layer at work, the next one, and what lies around the
    layers; with them the gradients of a layer and of that, where every weight learns
    (torch/distributed/fsdp/_fully_shard)."""
    compute = load.compute
    if compute.shards == 1:
        return 0
    held = NF4_BITS / 8 if compute.four_bit else compute.width
    layer = (held * shape.linear_parameters + compute.width * shape.expert_parameters) / shape.layers
    outer = compute.width * shape.outer_parameters
    return int((2 * layer + outer) if compute.adapted else (3 * layer + 2 * outer))


def merged_expert_bytes(shape: ModelShape, load: Workload) -> int:
    """An adapter of experts is added to all of a layer's for each pass, and the sum is kept for the backward pass, its
    gradient beside it (peft/tuners/lora/layer.py:ParamWrapper)."""
    if not shape.experts or not load.compute.adapted:
        return 0
    kept = 1 if load.compute.checkpointing else shape.layers
    return load.compute.width * (kept + 1) * shape.expert_parameters // shape.layers


def layer_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by one layer for one token."""
    kept = decoder_layer(shape, load) if shape.family == "decoder" else encoder_layer(shape, load)
    return sum(kept.values()) + adapter_bytes(shape, load)


def decoder_layer(shape: ModelShape, load: Workload) -> dict[str, int]:
    """Bytes a token of what transformers/models/llama/modeling_llama.py keeps, by tensor."""
    width, heads = load.compute.width, shape.heads * shape.head_size
    times = shape.active_experts or 1
    of_experts = shape.active_experts * width * (shape.hidden + shape.intermediate)
    return {
        "attention norm's input": FLOAT32 * shape.hidden,
        "queries": width * heads,
        "keys": width * shape.key_value_width,
        "values": width * shape.key_value_width,
        "attention's output": width * heads,
        "feed-forward norm's input": FLOAT32 * shape.hidden,
        "gate": times * width * shape.intermediate,
        "gate's activation": times * width * shape.intermediate,
        "up": times * width * shape.intermediate,
        "experts' inputs": of_experts,
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
            0 if shape.experts else shape.hidden,  # of gate and up
            0 if shape.experts else shape.intermediate,  # of down
        )
    )
    of_a = for_each if load.compute.width == BFLOAT16 else shared
    of_b = len(shape.linears) * load.compute.rank if load.compute.adapted else 0
    return load.compute.width * (of_a + of_b)


def activation_bytes(shape: ModelShape, load: Workload) -> int:
    """Kept by all layers for the largest micro-batch; with checkpointing each layer's input and one layer whole
    (arXiv:1604.06174). Offloaded inputs wait in the host's memory, but for two on their way."""
    kept = layer_bytes(shape, load)
    if load.compute.checkpointing:
        inputs = min(2, shape.layers) if load.compute.offloading else shape.layers
        return load.tokens * (inputs * shape.hidden * base_width(load) + kept)
    return load.tokens * shape.layers * kept


def backward_bytes(shape: ModelShape, load: Workload) -> int:
    """Of a GPU, which has no heap's share for it: the gradients inside one layer, and a weight of 4 bits unpacked."""
    inner = (shape.active_experts or 1) * shape.intermediate
    gradients = load.tokens * load.compute.width * 2 * (inner + shape.hidden)
    unpacked = BFLOAT16 * max(inputs * outputs for inputs, outputs in shape.linears) if load.compute.four_bit else 0
    return gradients + unpacked


def cast_bytes(shape: ModelShape, load: Workload) -> int:
    """Autocast's bfloat16 copies of float32 weights, adapters among them, are kept for the backward pass through them
    (torch/amp/autocast_mode.py)."""
    compute = load.compute
    if compute.dtype == "float32" or compute.shards > 1:  # FSDP2 gathers in the dtype that multiplies
        return 0
    base = 0 if compute.narrow_base or compute.four_bit else shape.linear_parameters
    adapters = adapter_parameters(shape, compute.rank) if compute.adapted else 0
    return BFLOAT16 * (base + adapters)


def logits_bytes(shape: ModelShape, load: Workload) -> int:
    """Of the target tokens, as transformers/loss/loss_utils.py:ForCausalLMLoss computes them; with the fused head of a
    few at a time (train/layers/linear_cross_entropy.py), on a GPU a tile of some tokens and words
    (trl/kernels/chunked_logprob.py)."""
    if shape.family == "encoder":
        return 0
    targets = math.ceil(load.compute.batch * load.rows.longest * load.rows.target_token_share)
    if load.compute.fused_head and not load.compute.on_cpu:
        rows, words = HEAD_TILE
        tile = min(targets, rows) * min(shape.vocabulary, words)
        return load.compute.width * tile + FLOAT32 * targets * shape.hidden
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
    """Bytes of one device by what holds them; `peak` is the most at one moment: loading (on a GPU tensor by tensor, so
    never the most), or the start of a backward pass."""
    trained, compute = trained_parameters(shape, load), load.compute
    state = OPTIMIZER_BYTES[compute.optimizer]
    parts = {
        "weights": weight_bytes(shape, load) // compute.shards,
        "adapter": FLOAT32 * trained // compute.shards if compute.adapted else 0,
        "gradients": FLOAT32 * trained // compute.shards,
        "optimizer": int(state * trained) // compute.shards,
        "gathered": gathered_bytes(shape, load),
        "merged experts": merged_expert_bytes(shape, load),
        "activations": activation_bytes(shape, load),
        "casts": cast_bytes(shape, load),
        "logits": logits_bytes(shape, load),
        "backward": 0 if compute.on_cpu else backward_bytes(shape, load),
        "runtime": RUNTIME_BYTES if compute.on_cpu else GPU_RUNTIME_BYTES,
    }
    kept = parts["activations"] + parts["casts"] + parts["logits"]
    parts["heap"] = int(HEAP_SHARE * kept) if compute.on_cpu else 0
    loading = parts["weights"] + shape.stored_bytes + parts["runtime"] if compute.on_cpu else 0
    shown = {name: value for name, value in parts.items() if value or name not in OPTIONAL}
    return shown | {"peak": max(loading, sum(parts.values()))}
