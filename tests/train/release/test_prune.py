"""Zeros are where they were asked for, all of them stay through a recovery fine-tune, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.run.quantize import Prune
from train.release.calibration import loader
from train.release.prune import collate, prune, recover, sparsity
from train.release.recipe import quantized_layers

LABELS = ["bad", "good"]
pytestmark = pytest.mark.integration
SETTINGS = {
    "magnitude-0.5": {"method": "magnitude"},
    "magnitude-0.25": {"method": "magnitude", "sparsity": 0.25},
    "wanda-0.5": {"method": "wanda"},
    "wanda-2:4": {"method": "wanda", "structure": "2:4"},
    "sparsegpt-0.75": {"method": "sparsegpt", "sparsity": 0.75},
    "sparsegpt-2:4": {"method": "sparsegpt", "structure": "2:4"},
}


@pytest.fixture(params=["gpt", "bert"])
def model(request: pytest.FixtureRequest, tiny_gpt: Path, tiny_bert: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from train.model.heads import load_classifier

    torch.manual_seed(1)
    found = (
        load_classifier(tiny_bert, LABELS)
        if request.param == "bert"
        else AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.float32)
    )
    return found.eval()


def encoded(tokenizer: Any, model: Any) -> list[dict[str, Any]]:
    rows = [tokenizer(text)["input_ids"] for text in ("good film", "a bad film 42", "user assistant", "fine film")]
    is_classifier = "Classification" in type(model).__name__
    return [
        {"input_ids": ids} | ({"label": LABELS[index % 2]} if is_classifier else {"loss_mask": [True] * len(ids)})
        for index, ids in enumerate(rows)
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_layer_has_its_share_of_zeros_and_the_rest_none(name: str, model: Any, tokenizer: Any) -> None:
    settings = Prune.model_validate(SETTINGS[name])
    others = {
        key: value.clone()
        for key, value in model.state_dict().items()
        if key.removesuffix(".weight") not in quantized_layers(model)
    }
    prune(model, settings, loader(encoded(tokenizer, model)))
    shares = [float((layer.weight == 0).float().mean()) for layer in quantized_layers(model).values()]
    assert len(shares) > 10 and all(share == pytest.approx(settings.sparsity, abs=0.02) for share in shares)
    assert sparsity(model) == pytest.approx(settings.sparsity, abs=0.01)
    if settings.structure == "2:4":
        for layer in quantized_layers(model).values():
            assert int((layer.weight.reshape(-1, 4) == 0).sum(dim=1).min()) >= 2, "two zeros in each four neighbours"
    assert all(bool((model.state_dict()[key] == value).all()) for key, value in others.items()), (
        "embeddings, norms, heads and biases stay"
    )


def test_a_recovery_fine_tune_learns_and_keeps_every_zero(model: Any, tokenizer: Any) -> None:
    import torch

    settings, rows = (
        Prune(method="magnitude", sparsity=0.5, recovery_steps=8, recovery_learning_rate=0.01),
        encoded(tokenizer, model),
    )

    def loss() -> float:
        with torch.inference_mode():
            found = [model(**collate([row], 0, LABELS)).loss for row in rows]
        return float(sum(found))

    model.requires_grad_(False)  # as a merged adapter leaves it
    prune(model, settings, None)
    zeros = {name: layer.weight == 0 for name, layer in quantized_layers(model).items()}
    before, pruned = {name: layer.weight.clone() for name, layer in quantized_layers(model).items()}, loss()
    recover(model, settings, rows, LABELS, tokenizer.pad_token_id, batch_size=4, seed=3)
    for name, layer in quantized_layers(model).items():
        assert bool((layer.weight[zeros[name]] == 0).all()), name
        assert not torch.equal(layer.weight, before[name]), "the other weights have moved"
    assert loss() < pruned and sparsity(model) == pytest.approx(0.5, abs=0.01)
