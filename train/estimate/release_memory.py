"""Memory of a release before it is made: of quantizing it, and of serving it."""

from __future__ import annotations

from configs.run.quantize import Quantize
from configs.run.serving import Serving
from train.estimate.memory import FLOAT32, GPU_RUNTIME_BYTES, RUNTIME_BYTES
from train.estimate.model_shape import ModelShape

# w4a16: with a 16-bit scale for each group of 64 weights or so
SCHEME_BITS = {"none": None, "int8": 8, "fp8": 8, "w4a16": 4.25, "adapter": None}
WIDTHS = {"float32": 4, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}  # all else is of 2 bytes
SHARD_BYTES = 5_000_000_000  # train/release/merge.py's
# As serve/plan/ counts them: vLLM's own tokens of a step, and what it takes beside its share of a GPU.
BATCHED_TOKENS = 8192
BESIDE_BYTES = int(1.5 * 2**30)


def quantizing_memory(shape: ModelShape) -> dict[str, int]:
    """train/quantize.py on a CPU: the merged model in float32, a shard of its saved file read back, and that rounded to
    the stored width."""
    shard = min(SHARD_BYTES, FLOAT32 * shape.parameters)
    parts = {
        "merged": FLOAT32 * shape.parameters,
        "read_back": shard,
        "rounded": shape.stored_width * shard // FLOAT32,
        "runtime": RUNTIME_BYTES,
    }
    return parts | {"peak": sum(parts.values())}


def gpu_quantizing_memory(shape: ModelShape, settings: Quantize, tokens: int) -> dict[str, int]:
    """On a GPU a layer at a time, or what lies around them; the model waits in the host's memory (`host_bytes`). GPTQ
    keeps for each linear module a Hessian of its inputs, and the widest one's is inverted beside its weights, all in
    float32 (Frantar et al. 2022, arXiv:2210.17323, section 3; llmcompressor/modifiers/gptq)."""
    inner = shape.linears + (shape.experts or 0) * shape.feed_forward
    layer = sum(inputs * outputs for inputs, outputs in inner)
    squares = [inputs * inputs for inputs, _ in inner] if settings.algorithm == "gptq" else []
    widest = max(inputs * outputs for inputs, outputs in inner)
    looked_at = tokens if settings.needs_calibration else 0
    parts = {
        "layer": shape.stored_width * max(layer, shape.outer_parameters),
        "hessians": FLOAT32 * sum(squares),
        "solver": FLOAT32 * (3 * max(squares, default=0) + 3 * widest),
        "activations": looked_at * (FLOAT32 * shape.vocabulary + 4 * shape.stored_width * shape.intermediate),
        "runtime": GPU_RUNTIME_BYTES,
    }
    return parts | {"peak": sum(parts.values())}


def host_bytes(shape: ModelShape) -> int:
    """Of the host while a GPU quantizes: the merged model in its stored dtype, and a shard of its saved file."""
    merged = shape.stored_width * shape.parameters
    return merged + 2 * min(SHARD_BYTES, merged)


def released_bytes(shape: ModelShape, scheme: str, dtype_width: int) -> int:
    """Quantized linear modules, experts among them, the rest in the serving dtype."""
    inner = shape.linear_parameters + shape.expert_parameters
    bits = SCHEME_BITS[scheme]
    return dtype_width * (shape.parameters - inner) + (int(inner * bits / 8) if bits else dtype_width * inner)


def serving_memory(shape: ModelShape, scheme: str, dtype_width: int, kv_cache_gib: int) -> dict[str, int]:
    """vLLM on a CPU: weights, and the cache that the config reserves; `cached_tokens` fit into it (no bytes)."""
    weights = released_bytes(shape, scheme, dtype_width)
    cache = kv_cache_gib * 2**30 if shape.family == "decoder" else 0
    return {
        "weights": weights,
        "kv_cache": cache,
        "peak": weights + cache,
        "cached_tokens": cache // key_value_bytes(shape, dtype_width),
    }


def gpu_serving_memory(shape: ModelShape, scheme: str, serving: Serving) -> dict[str, int]:
    """vLLM on each of the GPUs that one server is spread over: what it cannot start without. The cache is of one
    sequence of max_model_len; all that is left will hold more of them."""
    width, cached = (WIDTHS.get(name, 2) for name in (serving.dtype, serving.kv_cache_dtype))
    cached = width if serving.kv_cache_dtype == "auto" else cached
    one = serving.max_model_len * key_value_bytes(shape, cached) if shape.family == "decoder" else 0
    step = serving.max_num_batched_tokens or max(BATCHED_TOKENS, serving.max_model_len)
    inner = 2 * (shape.active_experts or 1) * shape.intermediate // serving.tensor_parallel_size + 4 * shape.hidden
    parts = {
        "weights": released_bytes(shape, scheme, width) // serving.gpus,
        "kv_cache": one // serving.gpus,
        "activations": 2 * step * inner + 8 * serving.max_num_seqs * shape.vocabulary,
        "runtime": BESIDE_BYTES,
    }
    return parts | {"peak": sum(parts.values()), "cached_tokens": serving.max_model_len if one else 0}


def key_value_bytes(shape: ModelShape, dtype_width: int) -> int:
    """Of one token: a key and a value in each layer (Kwon et al. 2023, arXiv:2309.06180, section 3)."""
    key = value = shape.key_value_width * dtype_width
    return shape.layers * (key + value)
