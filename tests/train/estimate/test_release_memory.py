"""Memory of a release before it is made: quantizing it, and serving it on a CPU and on GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.run.quantize import Quantize
from configs.run.serving import Serving
from tests.support.published import SHAPES
from train.estimate.devices import DEVICES, GIB
from train.estimate.model_shape import ModelShape
from train.estimate.release_memory import (
    SHARD_BYTES,
    gpu_quantizing_memory,
    gpu_serving_memory,
    host_bytes,
    key_value_bytes,
    quantizing_memory,
    serving_memory,
)
from train.release import merge

pytestmark = pytest.mark.unit
SMOLLM2 = ModelShape("decoder", 576, 1536, 30, 9, 3, 64, 49_152, 134_515_008, 269_030_016, 2, True)
MINILM = ModelShape("encoder", 384, 1536, 6, 12, 12, 32, 30_522, 22_713_728, 90_868_376, 4, True)


def test_serving_holds_the_scheme_and_the_reserved_cache() -> None:
    none, int8 = (serving_memory(SMOLLM2, scheme, 2, 1) for scheme in ("none", "int8"))
    assert none["weights"] == 2 * SMOLLM2.parameters and none["weights"] - int8["weights"] == SMOLLM2.linear_parameters
    assert key_value_bytes(SMOLLM2, 2) == 23_040 and none["cached_tokens"] == 2**30 // 23_040
    assert serving_memory(MINILM, "int8", 4, 1)["kv_cache"] == 0


def test_on_a_cpu_the_merged_model_is_float32_and_its_file_comes_back_by_the_shard() -> None:
    assert merge.SHARD_BYTES == SHARD_BYTES
    assert quantizing_memory(SMOLLM2)["peak"] > 8 * SMOLLM2.parameters, "a small model is one shard"
    assert quantizing_memory(SHAPES["Llama-3.1-8B"])["peak"] < 38 * GIB


@pytest.mark.parametrize(
    ("name", "device", "host"), [("Llama-3.1-8B", "l4-24gb", 26), ("Llama-3.3-70B", "h100-80gb", 142)]
)
@pytest.mark.parametrize("recipe", [{"scheme": "fp8"}, {"scheme": "int8"}, {"scheme": "w4a16", "algorithm": "gptq"}])
def test_a_gpu_quantizes_by_the_layer(name: str, device: str, host: int, recipe: dict[str, str]) -> None:
    memory = gpu_quantizing_memory(SHAPES[name], Quantize.model_validate(recipe), tokens=2048)
    assert memory["peak"] <= DEVICES[device].memory_bytes, "an 8B in 24 GiB, a 70B in 80 GiB"
    assert memory["layer"] >= 2 * SHAPES[name].linear_parameters // SHAPES[name].layers
    assert (memory["hessians"] > 0) is ("algorithm" in recipe)
    assert host_bytes(SHAPES[name]) < host * GIB


def test_quantizing_more_layers_takes_no_more_of_a_gpu() -> None:
    settings = Quantize(scheme="w4a16", algorithm="gptq")
    shape = SHAPES["Llama-3.1-8B"]
    one_layer = shape.linear_parameters // shape.layers
    deeper = replace(shape, layers=64, parameters=shape.parameters + 32 * one_layer)
    assert gpu_quantizing_memory(deeper, settings, 512) == gpu_quantizing_memory(shape, settings, 512)


def on_gpus(name: str, scheme: str, gpus: int = 1, **keys: object) -> dict[str, int]:
    known = {"dtype": "bfloat16", "max_model_len": 8192, "tensor_parallel_size": gpus}
    return gpu_serving_memory(SHAPES[name], scheme, Serving.model_validate(known | keys))


def test_a_gpu_serves_what_its_memory_holds_with_one_sequence_in_the_cache() -> None:
    eight = on_gpus("Llama-3.1-8B", "none")
    assert eight["weights"] == 2 * 8_030_261_248 and eight["kv_cache"] == 8192 * 131_072
    assert eight["peak"] <= DEVICES["l4-24gb"].memory_bytes
    assert on_gpus("Llama-3.3-70B", "none")["peak"] > DEVICES["h100-80gb"].memory_bytes
    assert on_gpus("Llama-3.3-70B", "none", 2)["peak"] <= DEVICES["h100-80gb"].memory_bytes
    assert on_gpus("Llama-3.3-70B", "fp8")["peak"] <= DEVICES["h100-80gb"].memory_bytes
    assert on_gpus("Llama-3.1-8B", "none", kv_cache_dtype="fp8")["kv_cache"] == eight["kv_cache"] // 2


def test_of_a_mixture_every_expert_is_held() -> None:
    assert on_gpus("Mixtral-8x7B", "none")["weights"] == 2 * SHAPES["Mixtral-8x7B"].parameters
    assert on_gpus("Mixtral-8x7B", "fp8")["weights"] < 48 * GIB
