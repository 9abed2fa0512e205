"""How long a training and an evaluation will take, from rates measured on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.estimate.memory import Workload, adapter_parameters
from train.estimate.model_shape import ModelShape

START_SECONDS = 40.0  # of vLLM, measured on an idle CPU machine of two cores (docs/notes.md)


# Before the first step and after the last, on an idle machine of two cores: MLflow's import, memory touched for the
# first time, the best checkpoint.
TRAINING_START_SECONDS = 3.5


@dataclass(frozen=True)
class Rates:
    """Seconds on the device: forward and backward of a layer, of what a model does once, of the head on a taught token;
    a decoded token's parts."""

    layer_seconds_per_token: float
    once_seconds_per_token: float
    head_seconds_per_token: float
    decode_layer_seconds: float
    decode_head_seconds: float


def rates_of(shape: ModelShape, load: Workload, flops: float, bytes_per_second: float) -> Rates:
    """For a GPU of a data sheet. A frozen weight is multiplied twice a token, forward and for the gradient of its
    input, an adapter's three times (Kaplan et al. 2020, arXiv:2001.08361, section 2.1: 2 FLOPs a weight and pass);
    decoding reads every weight once a step."""
    layer = shape.linear_parameters / shape.layers
    trained = adapter_parameters(shape, load.rank) / shape.layers if load.adapted else 0.0
    passes = 4 if load.adapted else 6
    pairs = 3 * 4 * load.longest * shape.heads * shape.head_size / (2 if shape.family == "decoder" else 1)
    head = shape.vocabulary * shape.hidden
    return Rates(
        (passes * layer + 6 * trained + pairs) / flops,
        0.0,
        4 * head / flops,
        2 * layer / bytes_per_second,
        2 * head / bytes_per_second,
    )


def training_seconds(shape: ModelShape, load: Workload, rates: Rates) -> float:
    """All steps and their validations. Checkpointing runs the layers' forward pass once more (arXiv:1604.06174)."""
    layers = shape.layers * rates.layer_seconds_per_token * (1 + load.forward_share * load.checkpointing)
    head = rates.head_seconds_per_token * load.target_token_share if shape.family == "decoder" else 0.0
    row = (layers + rates.once_seconds_per_token) * load.row_tokens + head * load.mean
    validated = math.ceil(load.steps / load.eval_every) * load.validation_rows
    return TRAINING_START_SECONDS + row * (load.steps * load.batch * load.accumulation + validated * load.forward_share)


def evaluation_seconds(
    shape: ModelShape, load: Workload, rates: Rates, new_tokens: int, concurrency: int, device_shares_reads: bool
) -> float:
    """vLLM's start, the prompts' forward pass, and for a language model every new token; a GPU reads its weights once
    for all rows in flight."""
    prompts = load.test_rows * load.mean * shape.layers * rates.layer_seconds_per_token * load.forward_share
    if shape.family == "encoder":
        return START_SECONDS + prompts
    token = shape.layers * rates.decode_layer_seconds + rates.decode_head_seconds
    together = min(concurrency, load.test_rows) if device_shares_reads else 1
    return START_SECONDS + prompts + token * load.test_rows * new_tokens / together
