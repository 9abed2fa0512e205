"""Every recipe on tiny random models: what is written is smaller, loads again without llmcompressor, and answers nearly
as its parent."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.run.quantize import Quantize
from train.release.calibration import loader
from train.release.merge import complete, finalize_directory, save
from train.release.recipe import compress, input_columns

pytestmark = pytest.mark.integration
RECIPES: dict[str, dict[str, Any]] = {
    "int8": {"scheme": "int8"},
    "int8-gptq": {"scheme": "int8", "algorithm": "gptq"},
    "fp8": {"scheme": "fp8"},
    "w4a16": {"scheme": "w4a16"},
    "w4a16-gptq": {"scheme": "w4a16", "algorithm": "gptq"},
}
DECODER_ONLY: dict[str, dict[str, Any]] = {
    "smoothquant": {"scheme": "int8", "smoothquant": 0.5},
    "smoothquant-gptq": {"scheme": "int8", "smoothquant": 0.8, "algorithm": "gptq"},
    "w4a16-awq": {"scheme": "w4a16", "algorithm": "awq"},
}
# Bytes of a quantized linear weight, of the parent's bfloat16 (GPT) or float32 (BERT) ones; scales and rounding come on
# top.
BITS = {"int8": 8, "fp8": 8, "w4a16": 4}
LABELS = ["bad", "fine", "good"]


@pytest.fixture
def gpt(tiny_gpt: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.float32).eval()


@pytest.fixture
def bert(tiny_bert: Path) -> Any:
    import torch

    from train.model.heads import load_classifier

    torch.manual_seed(1)
    return load_classifier(tiny_bert, LABELS).eval()


def batches(tokenizer: Any) -> Any:
    texts = ["good film", "bad film and a long sentence about it", "user assistant system 42", "fine"]
    return loader([{"input_ids": tokenizer(text)["input_ids"]} for text in texts])


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    with torch.inference_mode():
        return torch.softmax(model(**tokenizer("a good film 42", return_tensors="pt")).logits.float(), dim=-1)


def written(model: Any, settings: Quantize, tokenizer: Any, folder: Path, dtype: Any) -> tuple[Path, Path]:
    """The parent and the quantized model as `quantize` leaves them, without golden prompts, card and manifest."""
    parent, target = folder / "parent", folder / "release"
    save(model, tokenizer, parent, dtype)
    compress(model, settings, batches(tokenizer), target)
    finalize_directory(target, dtype)
    complete(target, parent)
    return parent, target


def linear_bytes(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as found:
        tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118  # safe_open is no dict
    kept = [
        name
        for name in tensors
        if "layer" in name and name.endswith((".weight", ".weight_packed")) and tensors[name].dim() == 2
    ]
    return sum(tensors[name].numel() * tensors[name].element_size() for name in kept)


@pytest.mark.parametrize("name", [*RECIPES, *DECODER_ONLY])
def test_a_gpt_shrinks_loads_again_and_answers_alike(name: str, gpt: Any, tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    settings, before = Quantize.model_validate((RECIPES | DECODER_ONLY)[name]), logits(gpt, tokenizer)
    parent, release = written(gpt, settings, tokenizer, tmp_path, torch.bfloat16)
    assert linear_bytes(release) * 16 == linear_bytes(parent) * BITS[settings.scheme]
    again = AutoModelForCausalLM.from_pretrained(release, dtype=torch.float32).eval()
    assert (logits(again, tokenizer) - before).abs().max() < 0.01


@pytest.mark.parametrize("name", RECIPES)
def test_a_classifier_shrinks_loads_again_with_its_three_labels_and_answers_alike(
    name: str, bert: Any, tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    settings, before = Quantize.model_validate(RECIPES[name]), logits(bert, tokenizer)
    parent, release = written(bert, settings, tokenizer, tmp_path, torch.float32)
    assert linear_bytes(release) * 32 == linear_bytes(parent) * BITS[settings.scheme]
    again = AutoModelForSequenceClassification.from_pretrained(release, dtype=torch.float32).eval()
    assert list(again.config.id2label.values()) == LABELS and again.config.architectures == [
        "BertForSequenceClassification"
    ]
    assert (logits(again, tokenizer) - before).abs().max() < 0.02


@pytest.mark.parametrize("name", ["w4a16-gptq", "w4a16-awq", "smoothquant"])
def test_equal_inputs_give_equal_bytes(name: str, gpt: Any, tokenizer: Any, tmp_path: Path) -> None:
    import torch

    settings, twin = Quantize.model_validate((RECIPES | DECODER_ONLY)[name]), copy.deepcopy(gpt)
    first, second = (
        written(model, settings, tokenizer, tmp_path / str(index), torch.bfloat16)[1]
        for index, model in enumerate((gpt, twin))
    )
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


def test_a_group_size_that_does_not_divide_is_refused_before_any_work(
    gpt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("train.release.recipe.run", no_work)
    assert input_columns(gpt) == {64, 128}
    with pytest.raises(
        InputError, match="expected group_size 64 or 32: 128 does not divide the base's 64 and 128 input columns"
    ):
        compress(gpt, Quantize(scheme="w4a16", group_size=128), None, tmp_path)
