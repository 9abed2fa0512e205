"""A release on a GPU's machine, by a stand-in for the accelerator that is this CPU: nothing here says how fast, or that
CUDA's kernels agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.run.config import RunConfig
from train.release import device
from train.release.device import dispatched, held_dtype

pytestmark = pytest.mark.integration


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator of 4 GB that is seen by our code alone."""
    import torch

    monkeypatch.setattr(device, "has_accelerator", lambda: True)
    monkeypatch.setattr(device, "free_memory", lambda: {torch.device("cpu"): 4_000_000_000})


def test_the_model_is_held_as_it_is_stored_but_for_what_must_stay_exact(
    chat: Callable[..., RunConfig], tiny_gpt: Path, accelerator: None
) -> None:
    import torch

    assert held_dtype(chat(), tiny_gpt) == torch.bfloat16
    assert held_dtype(chat(quantize={"scheme": "adapter"}), tiny_gpt) is None
    assert held_dtype(chat(quantize={"prune": {"method": "magnitude"}}), tiny_gpt) is None
    assert held_dtype(chat(train={"lora": {"initialization": "pissa"}}), tiny_gpt) is None


def test_without_an_accelerator_it_is_float32(chat: Callable[..., RunConfig], tiny_gpt: Path) -> None:
    assert held_dtype(chat(), tiny_gpt) is None


def test_a_dispatched_model_answers_alike_and_is_its_own_again(tiny_gpt: Path, accelerator: None) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.bfloat16).eval()
    ids, kinds = torch.arange(5, 21).reshape(2, 8), [type(module._parameters) for module in model.modules()]
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        with dispatched(model):
            assert [type(module._parameters) for module in model.modules()] != kinds
            assert torch.equal(model(input_ids=ids.to(model.device)).logits, plain)
        assert [type(module._parameters) for module in model.modules()] == kinds
        assert torch.equal(model(input_ids=ids).logits, plain)
