"""How long a training and an evaluation will take, from rates measured on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from train.estimate.memory import BFLOAT16, adapter_parameters
from train.estimate.model_shape import ModelShape
from train.estimate.workload import Workload

FLOPS = 2  # of a product: a multiplication and an addition
START_SECONDS = 40.0  # of vLLM, measured on an idle CPU machine of two cores (docs/notes.md)
# Before the first step and after the last, on an idle machine of two cores: MLflow's import, memory touched for the
# first time, the best checkpoint.
TRAINING_START_SECONDS = 3.5


@dataclass(frozen=True)
class Rates:
    """Seconds on the device: forward and backward of a layer, of what a model does once, of the head on a target
    token; a decoded token's parts."""

    layer_seconds_per_token: float
    once_seconds_per_token: float
    head_seconds_per_token: float
    decode_layer_seconds: float
    decode_head_seconds: float


def rates_of(shape: ModelShape, load: Workload, flops: float, bytes_per_second: float) -> Rates:
    """For a GPU of a data sheet, `flops` of which are reached. A product of a token with a weight, or with another
    token, is 2 FLOPs (Kaplan et al. 2020, arXiv:2001.08361, section 2.1); decoding reads every weight once a step."""
    frozen, trained = 2 * FLOPS, 3 * FLOPS  # forward and for the input's gradient; and for the weight's own
    layer = shape.active_parameters / shape.layers
    active = replace(shape, experts=shape.active_experts)
    adapters = adapter_parameters(active, load.compute.rank) / shape.layers if load.compute.adapted else 0.0
    base = (frozen if load.compute.adapted else trained) * layer
    # Scores and sums of values over every pair of tokens, forward and twice backward; a decoder sees half the pairs.
    pairs = 3 * 2 * FLOPS * load.rows.longest * shape.heads * shape.head_size / (2 if shape.family == "decoder" else 1)
    head = shape.vocabulary * shape.hidden
    return Rates(
        layer_seconds_per_token=(base + trained * adapters + pairs) / flops,
        once_seconds_per_token=0.0,
        head_seconds_per_token=frozen * head / flops,
        decode_layer_seconds=BFLOAT16 * layer / bytes_per_second,
        decode_head_seconds=BFLOAT16 * head / bytes_per_second,
    )


def training_seconds(shape: ModelShape, load: Workload, rates: Rates) -> float:
    """All steps and their validations. Checkpointing runs the layers' forward pass once more (arXiv:1604.06174)."""
    compute, rows = load.compute, load.rows
    passes = 1 + compute.forward_share * compute.checkpointing
    layers = shape.layers * rates.layer_seconds_per_token * passes
    head = rates.head_seconds_per_token * rows.target_token_share if shape.family == "decoder" else 0.0
    row = (layers + rates.once_seconds_per_token) * load.row_tokens + head * rows.mean
    trained = compute.steps * compute.batch * compute.accumulation
    sharers = 1 if compute.on_cpu else compute.processes
    validated = math.ceil(compute.steps / compute.eval_every) * rows.validation / sharers
    return TRAINING_START_SECONDS + row * (trained + validated * compute.forward_share)


def evaluation_seconds(
    shape: ModelShape, load: Workload, rates: Rates, new_tokens: int, concurrency: int, device_shares_reads: bool
) -> float:
    """vLLM's start, the prompts' forward pass, and for a language model every new token; a GPU reads its weights once
    for all rows in flight."""
    rows = load.rows.test
    prompts = rows * load.rows.mean * shape.layers * rates.layer_seconds_per_token * load.compute.forward_share
    if shape.family == "encoder":
        return START_SECONDS + prompts
    token = shape.layers * rates.decode_layer_seconds + rates.decode_head_seconds
    together = min(concurrency, rows) if device_shares_reads else 1
    return START_SECONDS + prompts + token * rows * new_tokens / together
