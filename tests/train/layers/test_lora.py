"""The fused LoRA layer is peft's, in value and in gradient, and steps back where it does not fit."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.layers.lora import fuse_adapters

pytestmark = pytest.mark.unit


def adapted(**section: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: Any = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    settings: Any = {
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 12,
        "target_modules": "all-linear",
        "init_lora_weights": False,
    }
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**shape)), LoraConfig(**settings | section))


@functools.cache
def attention_before_and_after() -> tuple[Any, Any]:
    """One attention as peft has it, and the same fused."""
    plain, fused = adapted(), adapted()
    fuse_adapters(fused)
    return tuple(model.get_base_model().model.layers[0].self_attn for model in (plain, fused))


def outcome(model: Any, bfloat16: bool = False) -> tuple[Any, dict[str, Any]]:
    import torch

    ids = torch.arange(20).reshape(2, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        found = model(input_ids=ids, labels=ids)
    model.zero_grad()
    found.loss.backward()
    return found.logits.detach().float(), {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


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


def test_gradients_are_those_of_peft_where_activations_are_computed_again() -> None:
    import torch

    model = adapted().train()
    logits, gradients = outcome(model)
    fuse_adapters(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    again, found = outcome(model)
    assert torch.allclose(again, logits, atol=1e-5)
    assert all(torch.allclose(found[name], gradients[name], atol=1e-5) for name in gradients)


def test_layers_with_biases_and_a_whole_trained_head() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 32,
        "hidden_dropout_prob": 0.0,
    }
    section: dict[str, Any] = {
        "task_type": "SEQ_CLS",
        "r": 4,
        "target_modules": "all-linear",
        "init_lora_weights": False,
    }
    model = get_peft_model(BertForSequenceClassification(BertConfig(**shape)), LoraConfig(**section)).eval()
    ids = torch.arange(20).reshape(2, 10)

    def gradients() -> dict[str, Any]:
        model.zero_grad()
        model(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
        return {
            name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
        }

    expected = gradients()
    assert fuse_adapters(model) == 7, "query, key, value, both dense layers of the block, its output, and the pooler"
    found = gradients()
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@given(
    asked=st.lists(
        st.tuples(st.sampled_from(["q_proj", "k_proj", "v_proj"]), st.integers(0, 1)), min_size=1, max_size=8
    )
)
def test_grouped_projections_answer_rightly_in_any_order_and_whatever_they_are_asked(
    asked: list[tuple[str, int]],
) -> None:
    import torch

    plain, fused = attention_before_and_after()
    inputs = [torch.full((1, 3, 16), 0.5), torch.linspace(-1, 1, 48).reshape(1, 3, 16)]
    for name, which in asked:
        assert torch.allclose(getattr(fused, name)(inputs[which]), getattr(plain, name)(inputs[which]), atol=1e-5)


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


def test_a_model_may_change_an_answer_in_place() -> None:
    """OLMo clips its projections so (clip_qkv, transformers/models/olmo/modeling_olmo.py)."""
    import torch

    from train.layers.lora import LowRankLinears

    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, requires_grad=True)
    parts = [torch.randn(size) for size in ((6, 8), (6,), (2, 8), (6, 2))]
    plain, fused = ([one.clone().requires_grad_() for one in parts[2:]] for _ in range(2))
    (answer,) = LowRankLinears.apply(x, (0.5,), *parts[:2], *fused)
    answer.clamp_(-1, 1).sum().backward()
    given: Any = x.grad
    x.grad = None
    expected = torch.nn.functional.linear(x, *parts[:2]) + 0.5 * (x @ plain[0].t()) @ plain[1].t()
    expected.clamp(-1, 1).sum().backward()
    pairs: list[tuple[Any, Any]] = [(given, x.grad), *((a.grad, b.grad) for a, b in zip(fused, plain, strict=True))]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)
