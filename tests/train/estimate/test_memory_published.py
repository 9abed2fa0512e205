"""The plan of a GPU against what peers measured, and against itself: more of anything never takes less."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import ROOT
from tests.support.published import METHODS, PEERS, PUBLISHED, SEVEN, SHAPES, Method, gpu_load
from train.estimate.devices import DEVICES, GIB
from train.estimate.duration import rates_of, training_seconds
from train.estimate.memory import adapter_parameters, training_memory
from train.estimate.model_shape import read_config

pytestmark = pytest.mark.unit
PAGE = (ROOT / "docs/gpu.md").read_text(encoding="utf8")
UNITS = {"GB": 1e9, "GiB": GIB}
MOST = 1.4  # times too much or too little, for each of the published figures
shapes, methods = st.sampled_from(sorted(SHAPES)), st.sampled_from(METHODS)


def peak(name: str, method: Method, **asked: Any) -> int:
    return training_memory(SHAPES[name], gpu_load(method, **asked))["peak"]


def planned(figure: dict[str, Any]) -> float:
    """In the unit of the figure."""
    asked = {key: figure[key] for key in ("batch", "length", "rank", "processes")}
    return peak(figure["model"], figure["method"], fused_head=figure["chunked"], **asked) / UNITS[figure["unit"]]


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_parameters_that_were_published(name: str) -> None:
    assert SHAPES[name].parameters == pytest.approx(PUBLISHED[name]["parameters"], rel=1e-4), "but for biases"


@pytest.mark.parametrize(
    "figure", PEERS["figures"], ids=lambda one: f"{one['source']}-{one['model']}-{one['method']}-{one['length']}"
)
def test_the_plan_is_near_what_a_peer_measured(figure: dict[str, Any]) -> None:
    assert 1 / MOST <= planned(figure) / figure["measured"] <= MOST


def test_most_figures_are_met_within_an_eighth() -> None:
    ratios = [planned(figure) / figure["measured"] for figure in PEERS["figures"]]
    assert statistics.median(abs(math.log(ratio)) for ratio in ratios) < math.log(1.125)
    assert statistics.median(ratios) >= 1.0, "rather too much than too little"


def rows_of_the_page() -> Iterator[str]:
    for figure in PEERS["figures"]:
        gpus = f"{figure['processes']} GPUs" if figure["processes"] > 1 else "1 GPU"
        where = f"{figure['source']} | {figure['model']}, {figure['method']}, {gpus}"
        rows = f"{figure['batch']} x {figure['length']:,}"
        yield f"| {where} | {rows} | {figure['measured']:g} {figure['unit']} | {planned(figure):.1f} |"
    for name in SEVEN:
        cells = [peak(name, method, processes=processes) / GIB for method in METHODS for processes in (1, 8)]
        yield f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


def test_the_page_names_each_figure_and_its_source() -> None:
    missing = [row for row in rows_of_the_page() if row not in PAGE]
    assert not missing, "docs/gpu.md lacks:\n" + "\n".join(missing)
    assert all(source["url"] in PAGE for source in PEERS["sources"].values())


@given(shapes, methods, st.integers(1, 16), st.integers(1, 32_768), st.integers(1, 256), st.sampled_from([1, 2, 8]))
def test_more_of_anything_never_takes_less(
    name: str, method: Method, batch: int, length: int, rank: int, processes: int
) -> None:
    asked = {"batch": batch, "length": length, "rank": rank, "processes": processes}
    least = peak(name, method, **asked)
    for key in ("batch", "length", "rank"):
        assert least <= peak(name, method, **asked | {key: asked[key] + 1})
    assert peak(name, method, **asked, offloading=True) <= least <= peak(name, method, **asked, checkpointing=False)
    assert peak(name, method, **asked, optimizer="adamw_8bit") <= least <= peak(name, method, **asked, fused_head=False)


@given(shapes, methods, st.integers(1, 16), st.integers(1, 32_768))
def test_a_larger_model_never_takes_less(name: str, method: Method, batch: int, length: int) -> None:
    shape, load = SHAPES[name], gpu_load(method, batch, length)
    least = training_memory(shape, load)["peak"]
    one_layer = (shape.linear_parameters + shape.expert_parameters) // shape.layers
    deeper = replace(shape, layers=shape.layers + 1, parameters=shape.parameters + one_layer)
    assert least < training_memory(deeper, load)["peak"]
    more_words = replace(shape, vocabulary=shape.vocabulary + 256, parameters=shape.parameters + 256 * shape.hidden)
    assert least < training_memory(more_words, load)["peak"]


@given(shapes, methods, st.integers(1, 16), st.integers(1, 32_768), st.integers(1, 64))
def test_more_gpus_never_need_more_on_each(name: str, method: Method, batch: int, length: int, gpus: int) -> None:
    one, more = (peak(name, method, batch=batch, length=length, processes=count) for count in (gpus, gpus + 1))
    alone = peak(name, method, batch=batch, length=length)
    assert gpus == 1 or more <= one, "what is gathered whole is the same on two GPUs and on more"
    assert peak(name, method, batch=batch, length=length, processes=8) < alone


@pytest.mark.parametrize(
    ("name", "method", "device", "gpus", "fits"),
    [
        ("Llama-3.1-8B", "lora", "l4-24gb", 1, True),  # torchtune: 16.2 GiB on an RTX 4090
        ("Llama-3.1-8B", "qlora", "l4-24gb", 1, True),
        ("Llama-3.1-8B", "full", "h100-80gb", 1, False),  # LLaMA-Factory: 18 bytes a parameter
        ("Llama-3.1-8B", "full", "h100-80gb", 8, True),
        ("Qwen3-14B", "lora", "l4-24gb", 1, False),  # 28 GB of weights
        ("Qwen3-14B", "lora", "l40s-48gb", 1, True),
        ("Qwen3-14B", "qlora", "l4-24gb", 1, True),
        ("Qwen3-32B", "lora", "h100-80gb", 1, True),
        ("Llama-3.3-70B", "lora", "h100-80gb", 1, False),  # 141 GB of weights
        ("Llama-3.3-70B", "lora", "h100-80gb", 8, True),  # torchtune: 27.6 GiB on each
        ("Llama-3.3-70B", "qlora", "a100-40gb", 1, False),
        ("Llama-3.3-70B", "qlora", "h100-80gb", 1, True),
        ("Llama-3.3-70B", "full", "h100-80gb", 8, False),  # 16 bytes a parameter are 141 GB on each
        ("Qwen3-30B-A3B", "lora", "l40s-48gb", 1, False),  # every expert's weights count: 61 GB
        ("Qwen3-30B-A3B", "lora", "h100-80gb", 1, True),
        ("Qwen3-30B-A3B", "full", "h100-80gb", 8, True),
    ],
)
def test_what_fits_is_what_is_known_to_fit(name: str, method: Method, device: str, gpus: int, fits: bool) -> None:
    assert (peak(name, method, processes=gpus) <= DEVICES[device].memory_bytes) is fits


def test_a_70b_learns_short_rows_in_48_gb_as_qlora_showed() -> None:
    """Dettmers et al. 2023 (arXiv:2305.14314): 65B on one GPU of 48 GB; its figure 6 is of rows of 512."""
    assert peak("Llama-3.3-70B", "qlora", length=512) <= DEVICES["l40s-48gb"].memory_bytes


@pytest.mark.parametrize("name", SHAPES)
def test_a_frozen_base_is_never_held_in_four_bytes(name: str) -> None:
    weights = training_memory(SHAPES[name], gpu_load("lora"))["weights"]
    assert weights == 2 * SHAPES[name].parameters > training_memory(SHAPES[name], gpu_load("qlora"))["weights"]


def test_a_shard_is_the_part_of_each_process_and_a_layer_is_gathered_whole() -> None:
    alone, shard = (training_memory(SHAPES["Llama-3.3-70B"], gpu_load("full", processes=count)) for count in (1, 8))
    for part in ("weights", "gradients", "optimizer"):
        assert shard[part] == alone[part] // 8
    layer = 2 * SHAPES["Llama-3.3-70B"].linear_parameters // 80
    assert "gathered" not in alone and 3 * layer < shard["gathered"] < 3 * layer + 10 * GIB


def test_all_experts_weights_count_and_the_active_ones_count_for_time() -> None:
    mixture, dense = SHAPES["Qwen3-30B-A3B"], SHAPES["Qwen3-32B"]
    load = gpu_load("lora")
    assert training_memory(mixture, load)["weights"] > 0.9 * training_memory(dense, load)["weights"]
    sparse, full = (training_seconds(one, load, rates_of(one, load, 4e14, 3e12)) for one in (mixture, dense))
    assert sparse < full / 4


def test_adapters_of_experts_are_as_large_as_peft_makes_them() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, MixtralConfig

    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 256}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    model: Any = AutoModelForCausalLM.from_config(MixtralConfig(**sizes))
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    shape = read_config(sizes | {"model_type": "mixtral", "tie_word_embeddings": False})
    assert adapter_parameters(shape, 8) == adapted.get_nb_trainable_parameters()[0]
    assert shape.parameters == sum(one.numel() for one in model.parameters()) - adapter_parameters(shape, 8)
