"""The loss without logits is transformers' own, in value and in gradient, and keeps away from models that it does not
fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.batches.collate import HEAD_ROWS, flatten
from train.layers.linear_cross_entropy import HeadLoss, fuse_head, sum_at_targets, sum_by_trl

pytestmark = pytest.mark.unit
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
}


@given(
    st.sampled_from([1, 7, HEAD_ROWS, HEAD_ROWS + 1, 2 * HEAD_ROWS + 3]),
    st.sampled_from([1.0, 300.0]),
    st.integers(0, 99),
    st.sampled_from([0.0, 0.1, 0.9]),
)
def test_loss_and_gradient_are_those_of_all_logits_at_once(
    rows: int, scale: float, seed: int, smoothing: float
) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(size, 6, dtype=torch.float64, generator=generator) for size in (rows, 11))
    targets = torch.randint(0, 11, (rows,), generator=generator)
    hidden.mul_(scale).requires_grad_()
    found, wanted = (
        HeadLoss.apply(hidden, weight, targets, smoothing),
        torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum", label_smoothing=smoothing),
    )
    (one,), (other,) = (torch.autograd.grad(3 * loss, hidden) for loss in (found, wanted))
    assert torch.allclose(found, wanted, rtol=1e-9) and torch.allclose(one, other, atol=1e-9)


def model_of(family: str, **more: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**SMALL | more))
    model.get_output_embeddings().weight.requires_grad_(False)
    return model.train()


def batch() -> dict[str, Any]:
    row = {"input_ids": [1, 2, 3, 4, 5], "loss_mask": [False, False, True, True, True]}
    return flatten([row, {"input_ids": [1, 2, 9, 8], "loss_mask": [False, False, True, True]}])


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Granite"])
@pytest.mark.parametrize("count", [None, 7])
def test_a_model_learns_as_before_and_answers_as_before(family: str, count: int | None) -> None:
    import torch

    more = {"logits_scaling": 8.0} if family == "Granite" else {}
    plain, fused = model_of(family, **more), model_of(family, **more)
    assert fuse_head(fused) and fused.training
    loss, fused_loss = (model(**batch(), num_items_in_batch=count).loss for model in (plain, fused))
    loss.backward()
    fused_loss.backward()
    gradient, fused_gradient = (
        torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
        for model in (plain, fused)
    )
    assert torch.allclose(loss, fused_loss) and torch.allclose(gradient, fused_gradient, atol=1e-6)
    assert gradient.abs().sum() > 0
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(fused(input_ids=ids).logits, plain(input_ids=ids).logits), "asked for no loss it gives logits"
    assert torch.equal(fused(input_ids=ids, labels=ids).loss, plain(input_ids=ids, labels=ids).loss), (
        "padded rows have no shift_labels"
    )


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_under_autocast_the_logits_are_those_of_autocast(stored: str) -> None:
    """Also of a head that is held in bfloat16, as a frozen base is where that loses nothing."""
    import torch

    plain, fused = (model_of("Llama").to(getattr(torch, stored)) for _ in range(2))
    assert fuse_head(fused)
    gradients = []
    for model in (plain, fused):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch(), num_items_in_batch=7).loss
        assert loss.dtype == torch.float32
        loss.backward()
        gradients.append((loss, torch.cat([one.grad.flatten() for one in model.model.layers.parameters()]).float()))
    (loss, gradient), (fused_loss, fused_gradient) = gradients
    assert torch.allclose(loss, fused_loss, rtol=1e-5)
    assert torch.nn.functional.cosine_similarity(gradient, fused_gradient, dim=0) > 0.9999


def test_smoothing_counts_in_training_and_not_in_validation() -> None:
    import torch

    plain, fused = model_of("Llama"), model_of("Llama")
    assert fuse_head(fused, smoothing=0.2)
    given = batch()
    logits, targets = plain(**given).logits.flatten(0, 1), given["shift_labels"].flatten()
    assert torch.allclose(fused(**given).loss, torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.2))
    with torch.no_grad():
        assert torch.allclose(fused(**batch()).loss, plain(**batch()).loss)


@pytest.mark.parametrize("capping", [0.1, 30.0])
def test_a_model_that_caps_its_logits_is_left_as_it_was(capping: float) -> None:
    import torch

    plain, asked = (model_of("Gemma2", head_dim=8, final_logit_softcapping=capping) for _ in range(2))
    assert not fuse_head(asked)
    assert torch.equal(asked(**batch()).loss, plain(**batch()).loss) and not asked._forward_pre_hooks


def test_a_model_that_does_something_unheard_of_to_its_logits_is_found_out_and_left_as_it_was() -> None:
    import torch

    plain, asked = model_of("Llama"), model_of("Llama")
    for model in (plain, asked):
        model.loss_function = lambda logits, labels, vocab_size, **_: torch.nn.functional.cross_entropy(
            logits.flatten(0, -2) ** 3, labels.flatten()
        )
    assert not fuse_head(asked)
    assert torch.equal(asked(**batch()).loss, plain(**batch()).loss) and not asked._forward_pre_hooks


def test_a_head_that_is_trained_is_left_alone() -> None:
    model = model_of("Llama")
    model.get_output_embeddings().weight.requires_grad_(True)
    assert not fuse_head(model)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_gpus_loss_is_that_of_all_logits_at_once(trained: bool, autocast: bool) -> None:
    """TRL's kernel by its own path without Triton, also of a head that is trained; the vocabulary in two parts."""
    import torch

    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(size, 6, generator=generator) for size in (9, 33_000))
    targets = torch.tensor([0, 1, 32_767, 32_768, 32_999, 5, 6, 7, 8])
    hidden.requires_grad_()
    weight.requires_grad_(trained)
    wanted = [hidden, weight] if trained else [hidden]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = sum_by_trl(hidden, weight, targets)
        logits = torch.nn.functional.linear(hidden, weight)
    plain = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
    assert torch.allclose(found, plain, rtol=1e-3 if autocast else 1e-5)
    for one, other in zip(torch.autograd.grad(found, wanted), torch.autograd.grad(plain, wanted), strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_a_cpu_computes_by_hand_and_a_gpu_by_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import torch

    import train.layers.linear_cross_entropy as module

    monkeypatch.setattr(module, "sum_by_trl", lambda *_: "TRL")
    monkeypatch.setattr(module.HeadLoss, "apply", lambda *_: "by hand")
    for device, smoothing, expected in (("cuda", 0.0, "TRL"), ("cuda", 0.1, "by hand"), ("cpu", 0.0, "by hand")):
        weight = SimpleNamespace(device=torch.device(device), dtype=torch.float32)
        assert sum_at_targets(None, weight, None, smoothing) == expected


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_head_that_is_trained_is_fused_where_a_gpu_trains_it(
    monkeypatch: pytest.MonkeyPatch, smoothing: float
) -> None:
    """The question is asked before the model stands there, as where it is to be sharded."""
    import torch

    import train.layers.linear_cross_entropy as module

    plain, asked = model_of("Llama"), model_of("Llama")
    for model in (plain, asked):
        model.get_output_embeddings().weight.requires_grad_(True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert fuse_head(asked, smoothing, "bfloat16") is not bool(smoothing)
    if not smoothing:
        monkeypatch.setattr(
            module, "sum_at_targets", lambda hidden, weight, targets, _: sum_by_trl(hidden, weight, targets)
        )
    losses = [model(**batch(), num_items_in_batch=7).loss for model in (plain, asked)]
    for loss in losses:
        loss.backward()
    first, second = (model.get_output_embeddings().weight.grad for model in (plain, asked))
    assert torch.allclose(*losses) and torch.allclose(first, second, atol=1e-6) and first.abs().sum() > 0
