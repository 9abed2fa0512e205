"""Rows to release with the real libraries, on tiny random models; twice is once, and a kill costs only the steps since
the last checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.data_card import read_released, released
from configs.digest import sha256_of
from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest, read_manifest, verify_release
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord
from tests.paths import ROOT
from train.data.prepared import read_card
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.quantize import quantize
from train.release import device

pytestmark = pytest.mark.integration
KILLED = """
import sys, time
from types import SimpleNamespace
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord
from train.finetune import finetune
config = RunConfig.model_validate_json(sys.argv[1])
slow = SimpleNamespace(run_id="first", log_metrics=lambda figures, step: (print(step, flush=True), time.sleep(0.05)))
finetune(config, RunPaths.of(config.name), slow)
"""


class Record:
    """A tracker that remembers."""

    run_id = "run-1"

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))


def make_release(config: RunConfig) -> tuple[TrainingRecord, Manifest]:
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    return finetune(config, paths, Record()), quantize(config, paths)


def modified(folder: Path) -> dict[str, int]:
    return {path.as_posix(): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def tensors(release: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(release / "model.safetensors", framework="pt") as found:
        # safe_open is no dict
        return {name: str(found.get_tensor(name).dtype).removeprefix("torch.") for name in found.keys()}  # noqa: SIM118


def test_a_classifier_becomes_a_verified_release_beside_its_parent(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(train={"max_steps": 30}, quantize={"compare_parent": True})
    paths = RunPaths.of(config.name)
    record, manifest = make_release(config)

    assert record["steps"] == 30 and record["tracking_run_id"] == "run-1"
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"] / 2, "one word decides: this can be learned"
    assert record["best_validation_loss"] == min(line["eval_loss"] for line in record["validation"])
    assert verify_release(paths.release).reference == manifest.reference
    assert manifest.labels == ["bad", "good"] and manifest.config["name"] == "tiny-classifier"
    assert manifest.base["digest"] == read_manifest(Path("build/base/tiny-bert")).digest
    assert "Corrupted" not in (paths.release / "README.md").read_text()
    assert read_released(paths.release) == released(read_card(paths)), "later rows are held against it"
    assert "data_card.json" in {file.path for file in manifest.files}

    kinds = tensors(paths.release)
    assert "int8" in {kind for name, kind in kinds.items() if "encoder" in name}
    assert not any(
        kind == "int8"
        for name, kind in kinds.items()
        if "pooler" in name or "classifier" in name or "embeddings" in name
    )
    parent = verify_release(paths.parent)
    assert set(tensors(paths.parent).values()) == {"float32"} and parent.quantization["scheme"] == "none"
    assert (
        manifest.quantization["size_bytes"]
        < manifest.quantization["parent_size_bytes"]
        == parent.quantization["size_bytes"]
    )

    before = modified(paths.root)
    assert make_release(config) == (record, manifest)
    assert modified(paths.root) == before, "a second run does nothing"


def test_equal_inputs_give_equal_bytes_and_the_template_is_the_bases_own(chat: Callable[..., RunConfig]) -> None:
    config = chat()
    paths = RunPaths.of(config.name)
    record, manifest = make_release(config)
    assert record["best_step"] in {2, 4} and verify_release(paths.release) == manifest
    assert not paths.parent.exists(), "kept only where it is asked for"
    assert (paths.release / "chat_template.jinja").read_text() == Path("tiny-gpt/chat_template.jinja").read_text()
    golden = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text().splitlines()]
    assert len(golden) == 3 and all(line["first_token_logprob"] <= 0 for line in golden)
    kinds = tensors(paths.release)
    assert {kind for name, kind in kinds.items() if name.endswith("proj.weight")} == {"int8"}
    assert kinds["model.embed_tokens.weight"] == "bfloat16", "what is not quantized keeps the dtype it came in"

    again = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"concurrency": 3})})
    assert quantize(again, paths).digest == manifest.digest, "merged anew, byte for byte the same"


def test_the_unquantized_scheme_ships_the_merged_weights(chat: Callable[..., RunConfig]) -> None:
    config = chat(quantize={"scheme": "none"}, train={"max_steps": 1})
    _, manifest = make_release(config)
    assert manifest.quantization["size_bytes"] == manifest.quantization["parent_size_bytes"]
    assert set(tensors(RunPaths.of(config.name).release).values()) == {"bfloat16"}


def test_an_adapter_ships_beside_the_bases_own_bytes_and_the_golden_answers_are_those_of_both_together(
    chat: Callable[..., RunConfig],
) -> None:
    """Not those of the merged weights, which are rounded to bfloat16 first."""
    config = chat(quantize={"scheme": "adapter", "compare_parent": True})
    paths = RunPaths.of(config.name)
    _, manifest = make_release(config)
    assert verify_release(paths.release) == manifest and (manifest.adapter, manifest.adapter_rank) == (
        f"{config.name}@{manifest.digest[7:19]}",
        4,
    )
    assert manifest.adapter_layers == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (
        json.loads((paths.release / "lora/adapter_config.json").read_text())["target_modules"]
        == manifest.adapter_layers
    )
    assert sha256_of(paths.release / "model.safetensors") == sha256_of(Path("build/base/tiny-gpt/model.safetensors"))
    assert manifest.quantization["size_bytes"] == sum(
        file.size for file in manifest.files if file.path.endswith(".safetensors")
    )
    card = (paths.release / "README.md").read_text()
    assert "in `lora/` the adapter, of rank 4" in card and "merged," not in card

    first = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text().splitlines()]
    assert [line["first_token_logprob"] for line in first] == pytest.approx(
        unmerged_logprobs(paths.release, first), abs=2e-5
    )
    rounded = [
        json.loads(line)["first_token_logprob"] for line in (paths.parent / "golden.jsonl").read_text().splitlines()
    ]
    assert [line["first_token_logprob"] for line in first] != pytest.approx(rounded, abs=2e-5)
    again = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"concurrency": 3})})
    assert quantize(again, paths).digest == manifest.digest


def unmerged_logprobs(release: Path, golden: list[dict[str, Any]]) -> list[float]:
    """By peft, from the release's files alone: of the likeliest first token after each golden prompt."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(release, dtype=torch.float32), release / "lora"
    ).eval()
    with torch.inference_mode():
        return [
            float(torch.log_softmax(model(torch.tensor([line["prompt_ids"]])).logits[0, -1], dim=-1).max())
            for line in golden
        ]


def test_an_adapter_on_the_head_is_not_shipped_unmerged(chat: Callable[..., RunConfig]) -> None:
    config = chat(
        quantize={"scheme": "adapter"}, train={"max_steps": 1, "lora": {"target_modules": ["q_proj", "lm_head"]}}
    )
    with pytest.raises(RefusedError, match="found lm_head, expected layers inside the model"):
        make_release(config)
    assert not RunPaths.of(config.name).release.exists()


def test_a_flipped_byte_in_a_finished_release_is_made_anew(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(train={"max_steps": 1})
    paths = RunPaths.of(config.name)
    _, manifest = make_release(config)
    weights = bytearray((paths.release / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (paths.release / "model.safetensors").write_bytes(weights)
    assert quantize(config, paths).digest == manifest.digest
    assert verify_release(paths.release).digest == manifest.digest


@pytest.mark.parametrize("quantization", [{"scheme": "fp8"}, {"scheme": "w4a16", "algorithm": "gptq"}])
def test_on_a_gpus_machine_the_parent_has_the_bytes_that_it_has_without_one(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, quantization: dict[str, Any]
) -> None:
    """A stand-in for the accelerator that is this CPU: nothing here says that CUDA's kernels agree."""
    import torch

    config = chat(train={"max_steps": 1}, quantize=quantization | {"compare_parent": True})
    paths = RunPaths.of(config.name)
    _, plain = make_release(config)
    bytes_ = (paths.parent / "model.safetensors").read_bytes()
    (paths.release / "manifest.json").unlink()
    monkeypatch.setattr(device, "has_accelerator", lambda: True)
    monkeypatch.setattr(device, "free_memory", lambda: {torch.device("cpu"): 4_000_000_000})
    narrow = quantize(config, paths)
    assert (paths.parent / "model.safetensors").read_bytes() == bytes_
    assert verify_release(paths.release).digest == narrow.digest
    assert narrow.quantization["scheme"] == plain.quantization["scheme"]
    sizes = [manifest.quantization["size_bytes"] for manifest in (plain, narrow)]
    assert max(sizes) - min(sizes) < sizes[0] / 10, "scales of two bytes or of four"


def test_quantize_before_train_names_the_command(classifier: Callable[..., RunConfig]) -> None:
    config = classifier()
    prepare(config, RunPaths.of(config.name), make_base(config))
    with pytest.raises(InputError, match="tunegate train"):
        quantize(config, RunPaths.of(config.name))


def kill_after_checkpoint(config: RunConfig, step: int) -> None:
    """kill -9 the training process once the checkpoint of `step` is whole and it has gone on."""
    checkpoint = RunPaths.of(config.name).checkpoints / f"checkpoint-{step}" / "complete"
    command = [sys.executable, "-c", KILLED, config.model_dump_json()]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if checkpoint.exists() and int(line) > step:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_training_goes_on_from_its_last_checkpoint(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(train={"max_steps": 12, "eval_every_steps": 4})
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    kill_after_checkpoint(config, 4)
    assert not paths.trained.exists(), "nothing that looks finished"
    tracker = Record()
    started = time.perf_counter()
    resumed = finetune(config, paths, tracker)
    assert resumed["resumed_from_step"] in {4, 8} and resumed["steps"] == 12
    assert resumed["seconds"] <= time.perf_counter() - started
    assert min(step for figures, step in tracker.logged if "loss" in figures) == resumed["resumed_from_step"] + 1
    assert [line["step"] for line in resumed["losses"]] == list(range(1, 13)), "the record is whole"

    whole = config.model_copy(update={"name": "whole"})
    prepare(whole, RunPaths.of("whole"), make_base(whole))
    straight = finetune(whole, RunPaths.of("whole"), Record())
    assert [line["loss"] for line in resumed["losses"]] == [line["loss"] for line in straight["losses"]], (
        "as if never killed"
    )


def test_another_learning_rate_is_another_training(classifier: Callable[..., RunConfig]) -> None:
    config, slower = classifier(train={"max_steps": 2}), classifier(train={"max_steps": 2, "learning_rate": 0.001})
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    first = finetune(config, paths, Record())
    second = finetune(slower, paths, Record())
    assert second["key"] != first["key"] and second["validation"] != first["validation"]
