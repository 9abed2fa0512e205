"""The fused LoRA layer is peft's, in value and in gradient, and steps back where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from train.fused import fuse_adapters

pytestmark = pytest.mark.unit


def adapted(**section: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32}
    config = LoraConfig(**({"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 12, "target_modules": "all-linear", "init_lora_weights": False} | section))
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**shape)), config)


def outcome(model: Any, bfloat16: bool = False) -> tuple[Any, dict[str, Any]]:
    import torch

    ids = torch.arange(20).reshape(2, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        found = model(input_ids=ids, labels=ids)
    model.zero_grad()
    found.loss.backward()
    return found.logits.detach().float(), {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 5e-2)])
def test_values_and_gradients_are_those_of_peft(bfloat16: bool, tolerance: float) -> None:
    import torch

    model = adapted()
    logits, gradients = outcome(model, bfloat16)
    assert fuse_adapters(model) == 14, "seven linear layers in each of two blocks"
    fused, fused_gradients = outcome(model, bfloat16)
    assert torch.allclose(fused, logits, atol=tolerance)
    assert gradients.keys() == fused_gradients.keys() and len(gradients) == 28
    assert all(torch.allclose(fused_gradients[name], gradients[name], atol=tolerance) for name in gradients)


def test_with_its_adapter_off_the_layer_is_the_base() -> None:
    import torch

    model = adapted()
    with model.disable_adapter():
        expected = outcome_without_gradient(model)
    fuse_adapters(model)
    with model.disable_adapter():
        assert torch.equal(outcome_without_gradient(model), expected)
    assert not torch.allclose(outcome_without_gradient(model), expected)


def outcome_without_gradient(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(10)[None]).logits


@pytest.mark.parametrize("section", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_layers_that_do_more_than_plain_lora_keep_their_own_forward(section: dict[str, Any]) -> None:
    assert fuse_adapters(adapted(**section)) == 0
