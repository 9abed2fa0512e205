"""The norm whose gradient is written out is transformers' own, and takes the place of no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.layers.rms_norm import RootMeanSquareNorm, fuse_norms

pytestmark = pytest.mark.unit
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 9), st.sampled_from([1e-6, 1e-2]), st.booleans(), st.integers(0, 99))
def test_its_gradients_are_those_of_finite_differences(outer: list[int], size: int, epsilon: float, trained: bool, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*outer, size, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.rand(size, dtype=torch.float64, generator=generator).add_(0.5).requires_grad_(trained)
    assert torch.autograd.gradcheck(lambda *given: RootMeanSquareNorm.apply(*given, epsilon), (x, weight), atol=1e-4)


def model_of(family: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**SMALL, head_dim=8))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def outcome(model: Any, bfloat16: bool) -> tuple[Any, dict[str, Any]]:
    import torch

    ids = torch.arange(20).reshape(2, 10)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        found = model(input_ids=ids, labels=ids)
    found.loss.backward()
    return found.logits.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("family", "norms"), [("Llama", 5), ("Qwen2", 5), ("Qwen3", 9)])
@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 5e-2)])
def test_a_whole_model_answers_and_learns_as_before(family: str, norms: int, bfloat16: bool, tolerance: float) -> None:
    import torch

    model = model_of(family)
    logits, gradients = outcome(model, bfloat16)
    assert fuse_norms(model) == norms, "two in each block, one at the end; Qwen3 has two more for queries and keys"
    again, found = outcome(model, bfloat16)
    assert torch.allclose(again, logits, atol=tolerance)
    assert found.keys() == gradients.keys() and any("norm" in name for name in found)
    assert all(torch.allclose(found[name], gradients[name], atol=tolerance) for name in found)


@pytest.mark.parametrize("family", ["Gemma", "Gemma2"])
def test_a_norm_of_another_kind_under_a_like_name_is_left_alone(family: str) -> None:
    assert fuse_norms(model_of(family)) == 0, "Gemma scales by 1 + w"
