"""Which models may have padding-free batches, and what attention by row refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from configs.errors import InputError
from configs.training.train import Train
from tests.support.tiny_families import make_family
from train.layers.attention import attend_by_row, use_attention
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
