"""Defaults of a GPU: where the YAML is silent, and nowhere else; a CPU's stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.loader import load
from configs.run import config as run_config
from configs.run.config import RunConfig
from configs.run.sweep import with_values
from tests.paths import ROOT

pytestmark = pytest.mark.unit
SHIPPED = sorted((ROOT / "configs/finetune").rglob("*.yaml"))
Make = Callable[..., RunConfig]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Of a YAML as a user writes it, in a checkout of its own with a base whose config.json is `base`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.yaml").write_text((ROOT / "configs/gates/smoke.yaml").read_text())

    def make(task: str = "causal-lm", base: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        (tmp_path / "base").mkdir(exist_ok=True)
        known: dict[str, Any] = {
            "model_type": "llama" if task == "causal-lm" else "bert",
            "max_position_embeddings": 131_072,
        }
        (tmp_path / "base/config.json").write_text(json.dumps(known | (base or {})))
        source = "bfcl" if task == "causal-lm" else "sentiment"
        known = {"name": "run", "task": task, "base": {"path": "base"}, "data": {"source": source}, "gate": "gate.yaml"}
        Path("run.yaml").write_text(yaml.safe_dump(known | {"train": {"max_steps": 5}} | sections))
        return load(Path("run.yaml"), RunConfig)

    return make


def settled(config: RunConfig) -> tuple[str, str, int]:
    return config.serving.dtype, config.quantize.scheme, config.serving.max_model_len


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_run_passes_for_a_gpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load(path.relative_to(ROOT), RunConfig, ["serving.device=cuda"])
    given = yaml.safe_load(path.read_text())
    if "dtype" not in given.get("serving", {}):
        assert config.serving.dtype == "bfloat16"
    if not given.get("quantize"):
        assert config.quantize.scheme in ("fp8", "none")
    assert config.serving.enforce_eager is not True


def test_a_gpu_gets_bf16_fp8_and_8k_and_a_cpu_what_it_had(read: Make) -> None:
    assert settled(read(serving={"device": "cuda"})) == ("bfloat16", "fp8", 8192)
    assert settled(read(serving={"device": "cpu"})) == settled(read()) == ("float32", "int8", 512)
    labels = read(task="sequence-classification", serving={"device": "cuda"})
    assert settled(labels) == ("bfloat16", "none", 512), "a BERT has few weights, and few positions"


def test_auto_is_the_machine_that_reads(read: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_config, "device_here", lambda: "cuda")
    assert settled(read()) == ("bfloat16", "fp8", 8192)
    assert settled(read(serving={"device": "cpu"})) == ("float32", "int8", 512)


def test_the_context_is_no_longer_than_the_base(read: Make) -> None:
    assert read(base={"max_position_embeddings": 2048}, serving={"device": "cuda"}).serving.max_model_len == 2048
    part = {"model_type": "gemma3", "max_position_embeddings": None, "text_config": {"max_position_embeddings": 4096}}
    assert read(base=part, serving={"device": "cuda"}).serving.max_model_len == 4096


def test_a_family_that_cannot_be_made_smaller_stays_as_it_is(read: Make) -> None:
    assert read(base={"model_type": "gpt2"}, serving={"device": "cuda"}).quantize.scheme == "none"


@pytest.mark.parametrize(
    ("serving", "quantize", "found"),
    [
        ({"dtype": "float16"}, {}, ("float16", "fp8", 8192)),
        ({"max_model_len": 512}, {}, ("bfloat16", "fp8", 512)),
        ({}, {"scheme": "int8"}, ("bfloat16", "int8", 8192)),
        ({}, {"algorithm": "gptq"}, ("bfloat16", "int8", 8192)),
        ({}, {"smoothquant": 0.5}, ("bfloat16", "int8", 8192)),
        ({}, {"compare_parent": True}, ("bfloat16", "fp8", 8192)),
        ({"dtype": "float32"}, {"scheme": "none"}, ("float32", "none", 8192)),
    ],
)
def test_what_the_yaml_says_is_obeyed(
    read: Make, serving: dict[str, Any], quantize: dict[str, Any], found: tuple[str, str, int]
) -> None:
    assert settled(read(serving={"device": "cuda"} | serving, quantize=quantize)) == found


def test_rows_may_be_as_long_as_a_gpu_serves(read: Make) -> None:
    data = {"source": "bfcl", "max_tokens": 2048}
    assert read(data=data, serving={"device": "cuda"}).data.max_tokens == 2048


def test_a_record_of_it_is_read_as_it_was_written(read: Make) -> None:
    config = read(serving={"device": "cuda"})
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert settled(again) == settled(config) == ("bfloat16", "fp8", 8192)


def test_a_trial_of_a_sweep_is_served_as_the_run_would_be(read: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_config, "device_here", lambda: "cuda")
    config = read(data={"source": "bfcl", "max_tokens": 2048})
    assert settled(with_values(config, {"train.lora.rank": 8})) == ("bfloat16", "fp8", 8192)
