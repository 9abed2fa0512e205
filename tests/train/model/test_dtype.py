"""In which dtype a base is held while it is trained, and where its tensors are put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.run.config import RunConfig
from tests.support.run_yaml import GOOD
from train.model.adapter import adapted_model, loading, wrap_model
from train.model.dtype import base_dtype
from train.model.heads import new_model

pytestmark = pytest.mark.unit


def config(task: str = "causal-lm", launch: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    rows = {"source": "files", "files": ["rows.jsonl"]}
    given = {"task": task, "data": rows, "train": {"max_steps": 1} | train, "launch": launch or {}}
    return RunConfig.model_validate(GOOD | given)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)


def in_float32(base: Path, folder: Path) -> Path:
    """The same base, stored in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def test_on_a_cpu_rounding_is_only_of_what_was_rounded_already(tiny_gpt: Path, tmp_path: Path) -> None:
    bases = (tiny_gpt, in_float32(tiny_gpt, tmp_path / "wide"))
    found = [base_dtype(config(dtype=dtype), base) for dtype in ("bfloat16", "float32") for base in bases]
    assert found == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    for section in ({"method": "full"}, {"lora": {"bias": "all"}}, {"lora": {"modules_to_save": ["lm_head"]}}):
        assert base_dtype(config(dtype="bfloat16", **section), tiny_gpt) == torch.float32


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, torch.bfloat16),
        ({"method": "qlora"}, torch.bfloat16),
        ({"dtype": "float16"}, torch.float16),
        ({"lora": {"bias": "all"}}, torch.bfloat16),
        ({"dtype": "float32"}, torch.float32),
        ({"method": "full"}, torch.float32),
        ({"lora": {"initialization": "pissa"}}, torch.float32),
    ],
)
@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification", "reward"])
def test_on_a_gpu_a_gpts_base_is_held_as_it_is_multiplied_whatever_it_is_stored_in(
    gpu: None, tiny_gpt: Path, tmp_path: Path, task: str, section: dict[str, Any], expected: Any
) -> None:
    for base in (tiny_gpt, in_float32(tiny_gpt, tmp_path / "wide")):
        assert base_dtype(config(task, **section), base) == expected


def test_on_a_gpu_a_berts_weights_stay_float32(gpu: None, tiny_bert: Path) -> None:
    assert base_dtype(config("sequence-classification"), tiny_bert) == torch.float32


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_what_is_trained_over_a_base_in_half_precision_is_float32(tiny_gpt: Path, task: str) -> None:
    settings = config(task, lora={"bias": "all", "modules_to_save": ["embed_tokens"]})
    model = wrap_model(new_model(settings, tiny_gpt, ["bad", "good"], torch.bfloat16), settings)
    trained = {name: one.dtype for name, one in model.named_parameters() if one.requires_grad}
    assert any("embed_tokens" in name for name in trained) and set(trained.values()) == {torch.float32}
    assert {one.dtype for one in model.parameters() if not one.requires_grad} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("rank", "launch", "section", "expected"),
    [
        (None, {}, {}, "cuda:0"),
        ("3", {"processes": 4}, {}, "cuda:3"),
        ("0", {"processes": 4, "strategy": "fsdp"}, {}, None),
        ("3", {"processes": 4, "strategy": "fsdp"}, {"method": "qlora"}, "cuda:3"),
    ],
)
def test_tensors_go_straight_to_the_gpu_of_their_process(
    gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    rank: str | None,
    launch: dict[str, Any],
    section: dict[str, Any],
    expected: str | None,
) -> None:
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    found = loading(config(launch=launch, **section))
    assert found.get("device_map") == (expected and {"": expected})
    packed: Any = found.get("quantization_config")
    if section:
        assert packed.bnb_4bit_quant_storage == torch.bfloat16, "which can be cut into shards"


def test_on_a_cpu_nothing_is_placed() -> None:
    assert loading(config()) == {}


@pytest.mark.parametrize(("rank", "reads"), [("0", True), ("1", False), ("3", False)])
def test_of_a_model_that_is_to_be_sharded_one_process_reads_the_files(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt: Path, rank: str, reads: bool
) -> None:
    """The others hold zeros, which cost nothing until they are written to."""
    from safetensors import safe_open as plain
    from transformers import modeling_utils

    opened: list[str] = []
    monkeypatch.setattr(
        modeling_utils, "safe_open", lambda *given, **named: opened.append(given[0]) or plain(*given, **named)
    )
    monkeypatch.setattr(modeling_utils, "is_fsdp_enabled", lambda: True)
    monkeypatch.setattr(modeling_utils, "is_local_dist_rank_0", lambda: rank == "0")
    monkeypatch.setenv("LOCAL_RANK", rank)
    settings = config(launch={"processes": 4, "strategy": "fsdp"})
    given = loading(settings)
    if not reads:  # what rank 0 tells of its own
        monkeypatch.setattr("train.model.heads.as_rank_0", lambda _: [])
    model = new_model(settings, tiny_gpt, [], torch.bfloat16, **given)
    weights = torch.cat([one.flatten() for one in model.parameters()])
    assert bool(weights.any()) is reads and weights.dtype == torch.bfloat16
    assert any("model.safetensors" in name for name in opened) is reads
    assert model.model.rotary_emb.inv_freq.any(), "no weight, so no process gets it from another"


def test_weights_are_loaded_where_and_as_they_are_trained(
    gpu: None, monkeypatch: pytest.MonkeyPatch, tiny_gpt: Path
) -> None:
    """No step between holds them in float32 or on another device."""
    from transformers import AutoModelForCausalLM

    asked: dict[str, Any] = {}

    def load(weights: Path, **named: Any) -> Any:
        asked.update(named)
        raise InterruptedError

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    with pytest.raises(InterruptedError):
        adapted_model(config(), tiny_gpt, [])
    assert (asked["dtype"], asked["device_map"]) == (torch.bfloat16, {"": "cuda:0"})
