"""Layers that are compiled one by one answer and learn as before, under the names that they had."""

from __future__ import annotations

from typing import Any

import pytest

from train.layers.compiled import compile_layers

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_learn_as_before_whatever_the_length(checkpointing: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32}

    def made() -> Any:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1))
        adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
        if checkpointing:
            adapted.gradient_checkpointing_enable({"use_reentrant": False})
        return adapted.train()

    plain, compiled = made(), made()
    assert compile_layers(compiled, backend="aot_eager") == 2, "of layers, and of nothing else"
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for length in (5, 9, 7):
        ids = torch.arange(length)[None]
        losses = [model(input_ids=ids, labels=ids, use_cache=False).loss for model in (plain, compiled)]
        for loss in losses:
            loss.backward()
        assert torch.allclose(losses[0], losses[1], rtol=1e-5)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.allclose(one.grad, other.grad, atol=1e-5)
