"""Which models may have padding-free batches, and what attention by row refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from configs.errors import InputError
from configs.training.train import Train
from tests.support.tiny_families import make_family
from train.layers.attention import attend_by_row, attend_packed, use_attention
from train.model.heads import load

pytestmark = pytest.mark.unit


def test_attention_by_row_without_bounds_is_an_error_not_a_leak() -> None:
    with pytest.raises(ValueError, match="cu_seq_lens_q"):
        attend_by_row(None, None, None, None, None)


@pytest.mark.parametrize("attention", ["auto", "eager"])
def test_scores_that_a_model_caps_are_capped_in_training(tmp_path: Path, attention: Literal["auto", "eager"]) -> None:
    """transformers' SDPA leaves the cap out and says nothing; vLLM heeds it."""
    import torch
    from transformers import AutoModelForCausalLM

    base = make_family("gemma2", tmp_path / "base")
    shape = json.loads((base / "config.json").read_text(encoding="utf8"))
    (base / "config.json").write_text(json.dumps(shape | {"attn_logit_softcapping": 0.05}), encoding="utf8")
    model, ids = load(AutoModelForCausalLM, base), torch.arange(1, 13)[None]
    assert use_attention(model, Train(max_steps=1, attention=attention)) == "padded"
    capped, uncapped = (
        AutoModelForCausalLM.from_pretrained(base, attn_implementation=name, dtype=torch.float32)(ids).logits
        for name in ("eager", "sdpa")
    )
    torch.testing.assert_close(model(ids).logits, capped)
    assert (capped - uncapped).abs().max() > 0.01


def test_a_model_with_a_sliding_window_is_padded_unless_packing_is_asked_for() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

    shape: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }

    def full() -> Any:
        return AutoModelForCausalLM.from_config(LlamaConfig(**shape))

    window = AutoModelForCausalLM.from_config(MistralConfig(sliding_window=8, **shape))
    for settings, layout, attention in (
        ({}, "shared", "sdpa_by_row"),
        ({"packing": "none"}, "padded", "sdpa"),
        ({"attention": "eager"}, "flattened", "eager"),
    ):
        model = full()
        assert use_attention(model, Train.model_validate({"max_steps": 1, **settings})) == layout
        assert model.config._attn_implementation == attention
    assert use_attention(window, Train(max_steps=1)) == "padded" and window.config._attn_implementation == "sdpa"
    with pytest.raises(InputError, match="sliding window"):
        use_attention(window, Train(max_steps=1, packing="sequence"))


def varlen(query: Any, key: Any, value: Any, bounds: Any, *_: Any, enable_gqa: bool = False, **named: Any) -> Any:
    """What torch's kernel gives, by a mask; query (tokens, heads, head size)."""
    import torch

    assert named["window_size"] == (-1, 0) and enable_gqa and query.dtype == torch.bfloat16
    rows = torch.bucketize(torch.arange(len(query)), bounds[1:-1], right=True)
    mask = (rows[:, None] == rows) & torch.ones(len(query), len(query), dtype=torch.bool).tril()
    queries, keys, values = (one.transpose(0, 1)[None].float() for one in (query, key, value))
    found = torch.nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, scale=named["scale"], enable_gqa=True
    )
    return found[0].transpose(0, 1).to(query.dtype)


def packed_inputs() -> tuple[Any, Any, Any]:
    import torch

    torch.manual_seed(0)
    sizes = ((1, 4, 9, 8), (1, 2, 9, 8), (1, 2, 9, 8))
    query, key, value = (torch.randn(size) for size in sizes)
    return query, key, value


def test_packed_rows_go_through_one_call_and_never_back_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import torch.nn.attention.varlen

    calls: list[Any] = []

    def kernel(*given: Any, enable_gqa: bool = False, **named: Any) -> Any:
        calls.append(given)
        return varlen(*given, enable_gqa=enable_gqa, **named)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", kernel)
    query, key, value = packed_inputs()
    bounds = torch.tensor([0, 4, 9], dtype=torch.int32)
    expected, _ = attend_by_row(None, query, key, value, None, 0.3, cu_seq_lens_q=bounds)
    for name in ("tolist", "item", "__bool__", "__int__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name: pytest.fail(f"{name} waits for the GPU"))
    found, _ = attend_packed(
        None, query, key, value, None, 0.3, cu_seq_lens_q=bounds, max_length_q=5, dtype=torch.bfloat16
    )
    monkeypatch.undo()
    assert found.shape == expected.shape == (1, 9, 4, 8) and found.dtype == query.dtype
    assert torch.allclose(found, expected, atol=2e-2) and len(calls) == 1
    assert calls[0][5:7] == (5, 5), "the longest row, by which the kernel is laid out"


@pytest.mark.parametrize(
    ("section", "found"),
    [({"sliding_window": 8}, "sliding_window"), ({"cu_seq_lens_q": None}, "cu_seq_lens_q"), ({"dropout": 0.1}, "drop")],
)
def test_packed_rows_that_the_kernel_would_attend_to_otherwise_are_an_error(
    section: dict[str, Any], found: str
) -> None:
    import torch

    given: dict[str, Any] = {
        "cu_seq_lens_q": torch.tensor([0, 9]),
        "max_length_q": 9,
        "dtype": torch.bfloat16,
    } | section
    with pytest.raises(ValueError, match=found):
        attend_packed(None, *packed_inputs(), None, **given)


@pytest.mark.parametrize(
    ("settings", "dtype", "dropout", "attention"),
    [
        ({}, "bfloat16", 0.0, "varlen"),
        ({"attention": "sdpa"}, "float16", 0.0, "varlen"),
        ({}, "float32", 0.0, "sdpa"),
        ({}, "bfloat16", 0.1, "sdpa"),
        ({"attention": "eager"}, "bfloat16", 0.0, "eager"),
    ],
)
def test_on_a_gpu_no_row_is_attended_to_by_itself(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], dtype: str, dropout: float, attention: str
) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "attention_dropout": dropout}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **heads))
    assert use_attention(model, Train.model_validate({"max_steps": 1, **settings}), dtype) == "flattened"
    assert model.config._attn_implementation == attention


def test_a_model_answers_alike_through_the_packed_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole model over two rows, by torch's kernel as it is meant and by attention row by row."""
    import torch
    import torch.nn.attention.varlen
    from transformers import AutoModelForCausalLM, LlamaConfig

    from train.batches.collate import flatten

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)).eval()
    rows = [{"input_ids": ids, "loss_mask": [False, True, True, True]} for ids in ([1, 2, 3, 4], [5, 6, 7, 8])]
    use_attention(model, Train(max_steps=1))
    by_row = model(**flatten(rows)).loss
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", varlen)
    use_attention(model, Train(max_steps=1), "bfloat16")
    assert torch.allclose(model(**flatten(rows)).loss, by_row, rtol=1e-3)


def test_a_torch_that_knows_no_word_for_grouped_heads_is_told_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11, as on a machine that cannot fetch another."""
    import torch
    import torch.nn.attention.varlen

    def older(
        query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, **more: Any
    ) -> Any:
        assert more.keys() == {"scale", "window_size"}
        return query

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", older)
    bounds = torch.tensor([0, 9], dtype=torch.int32)
    given: Any = {"cu_seq_lens_q": bounds, "max_length_q": 9, "dtype": torch.bfloat16}
    assert attend_packed(None, *packed_inputs(), None, **given)[0].shape == (1, 9, 4, 8)
