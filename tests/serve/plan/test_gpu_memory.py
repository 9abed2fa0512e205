"""What a release needs of a GPU, and where its servers find it beside what serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest, read_manifest
from configs.run.serving import Serving
from infra.dvc.releases import folder_of
from infra.nvml import BESIDE_GIB
from serve.plan.devices import Gpu, Need, anywhere
from serve.plan.gpu_memory import GIB, Here, need_of_serving, need_on_gpus, plan_places
from serve.record.facts import Placed
from tests.support.few_bytes import publish
from tests.support.published import PUBLISHED, SHAPES
from train.estimate.release_memory import gpu_serving_memory, released_bytes

pytestmark = pytest.mark.unit
# Llama-3.1-8B's config.json (Meta, 2024), sizes only.
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return read_manifest(folder_of(publish("demo")) / "release")


def serving(manifest: Manifest, **facts: Any) -> Manifest:
    return manifest.model_copy(
        update={"serving": Serving.model_validate({"device": "cuda", "dtype": "bfloat16"} | facts)}
    )


def test_the_cache_of_a_token_is_what_the_model_has_of_keys_and_values(manifest: Manifest) -> None:
    """Llama-3.1-8B: 32 layers, 8 heads of 128, a key and a value in bf16: 128 KiB a token, a GiB for 8,192."""
    need, said = need_on_gpus(LLAMA_8B, serving(manifest, max_model_len=8192, max_num_seqs=64))
    assert need.cache == 1.0 and "64 sequences of 8192 would fill 64.0 GiB" in said
    half, _ = need_on_gpus(LLAMA_8B, serving(manifest, max_model_len=8192, kv_cache_dtype="fp8"))
    assert half.cache == 0.5
    spread, _ = need_on_gpus(LLAMA_8B, serving(manifest, max_model_len=8192, tensor_parallel_size=4))
    assert spread.width == 4 and spread.activations < need.activations


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("split", [1, 4])
def test_a_plan_before_training_and_the_machine_that_serves_reckon_alike(name: str, split: int) -> None:
    """Two rooms, which do not know each other, of the same model."""
    facts = {"device": "cuda", "dtype": "bfloat16", "max_model_len": 8192, "tensor_parallel_size": split}
    serving = Serving.model_validate(facts)
    planned = gpu_serving_memory(SHAPES[name], "fp8", serving)
    weights = released_bytes(SHAPES[name], "fp8", 2) / GIB
    need, _ = need_of_serving(PUBLISHED[name]["config"], serving, weights)
    assert planned["peak"] / GIB == pytest.approx(need.each + BESIDE_GIB, abs=0.01)


def test_a_classifier_keeps_no_cache(manifest: Manifest) -> None:
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
    need, said = need_on_gpus(sizes | {"model_type": "bert", "vocab_size": 30522}, serving(manifest))
    assert need.cache == 0 and "sequences" not in said


def test_sizes_that_are_not_there_are_no_guess(manifest: Manifest) -> None:
    with pytest.raises(KeyError):
        need_on_gpus({"model_type": "llama"}, serving(manifest))


def config(**facts: Any) -> DeployConfig:
    return DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "slots": {"devices": "auto"}} | facts)


def plan(need: Need, gpus: list[Gpu], serving: list[Placed], weights: float = 16, **facts: Any) -> Any:
    return plan_places(config(**facts), "green", need, str(need), Here(gpus, 100, anywhere(need), serving, weights))


def gpu(number: int, usable: float = 80.0) -> Gpu:
    return Gpu(f"GPU-{number:04}", 80.0, usable)


EIGHT = Need(16, 8, 2)


def test_the_first_release_leaves_room_for_the_next_one() -> None:
    alone = plan(EIGHT, [gpu(0), gpu(1)], [])
    assert alone["mode"] == "surge" and "GPUs of its own" in alone["why"]
    (shared,) = plan(EIGHT, [gpu(0)], [])["places"]
    assert shared["gpus"] == ["GPU-0000"] and shared["utilization"] < 0.5


def test_the_arithmetic_says_the_share_and_how_many_sequences_its_cache_holds() -> None:
    """16 GiB of weights and 2 of activations; what is left holds a sequence a GiB."""
    found = plan(Need(16, 1, 2), [gpu(0)], [])
    share = found["places"][0]["utilization"]
    left = 80 * share - 18
    said = f"a server takes {share:g} of GPU-0000, {80 * share:.1f} GiB, {left:.1f} for the cache: {left:.1f} sequences"
    assert said in found["why"] and "1.5 GiB beside it for CUDA and its graphs" in found["why"]
    split = plan(Need(16, 1, 2, width=2), [gpu(0), gpu(1)], [])
    left = 80 * split["places"][0]["utilization"] - 8 - 2
    assert "of GPU-0000+GPU-0001" in split["why"] and f"{2 * left:.1f} sequences" in split["why"]
    assert "for the cache" not in plan(Need(16, 0, 2), [gpu(0)], [])["why"]


def test_the_next_one_takes_what_the_first_left() -> None:
    first: Placed = {"gpus": ["GPU-0000"], "utilization": 0.45}
    found = plan(EIGHT, [gpu(0)], [first])
    (place,) = found["places"]
    assert found["mode"] == "surge" and first["utilization"] + place["utilization"] < 1
    assert "beside what serves" in found["why"]


def test_in_place_of_what_serves_it_has_the_whole_gpu() -> None:
    first: Placed = {"gpus": ["GPU-0000"], "utilization": 0.9}
    found = plan(Need(40, 20, 2), [gpu(0)], [first])
    assert found["mode"] == "swap" and found["places"][0]["utilization"] > 0.9


BIG = Need(16, 48, 2)  # two fit no GPU, each by itself does
AWAKE: Placed = {"gpus": ["GPU-0000"], "utilization": 0.9, "sleeps": True}


def test_where_one_at_a_time_fits_the_first_is_started_so_that_it_can_sleep_and_the_next_lays_it_to_sleep() -> None:
    (first,) = plan(BIG, [gpu(0)], [])["places"]
    assert first["sleeps"]
    found = plan(BIG, [gpu(0)], [first])
    assert (found["mode"], found["places"][0]["sleeps"]) == ("sleep", True)
    assert "16.0 GiB of it in the host's memory" in found["why"]


@pytest.mark.parametrize(
    ("serving", "weights", "capacity"),
    [
        ({"gpus": ["GPU-0000"], "utilization": 0.9}, 16.0, "auto"),
        (AWAKE, 101.0, "auto"),
        (AWAKE, 16.0, "swap"),
    ],
    ids=["what serves was started without it", "no memory of the host for its weights", "no sleep wanted"],
)
def test_what_cannot_sleep_is_stopped_for_the_next(serving: Placed, weights: float, capacity: str) -> None:
    assert plan(BIG, [gpu(0)], [serving], weights, capacity=capacity)["mode"] == "swap"


@pytest.mark.parametrize(
    ("need", "here", "serving", "capacity", "why"),
    [
        (Need(140, 8, 2), [gpu(0)], [], "auto", "no GPUs for it"),
        (EIGHT, [gpu(0, 5.0)], [], "auto", "GPU-0000 5.0 of 80.0 GiB"),
        (Need(140, 8, 2), [gpu(0)], [{"gpus": ["GPU-0000"], "utilization": 0.9}], "auto", "even in place"),
        (Need(60, 8, 2), [gpu(0)], [{"gpus": ["GPU-0000"], "utilization": 0.9}], "surge", "beside what serves"),
    ],
    ids=["too large", "others hold it", "too large even in place", "no swap wanted"],
)
def test_what_cannot_be_is_refused_with_its_arithmetic(
    need: Need, here: list[Gpu], serving: list[Placed], capacity: str, why: str
) -> None:
    with pytest.raises(RefusedError, match=why) as refused:
        plan(need, here, serving, capacity=capacity)
    assert "weights" in str(refused.value) and "GiB" in str(refused.value)
