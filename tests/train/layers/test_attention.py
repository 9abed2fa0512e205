"""Which models may have padding-free batches, and what attention by row refuses."""

from __future__ import annotations

from typing import Any

import pytest

from configs.errors import InputError
from configs.training.train import Train
from train.layers.attention import attend_by_row, use_attention

pytestmark = pytest.mark.unit


def test_attention_by_row_without_bounds_is_an_error_not_a_leak() -> None:
    with pytest.raises(ValueError, match="cu_seq_lens_q"):
        attend_by_row(None, None, None, None, None)


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
    window, full = (
        AutoModelForCausalLM.from_config(made)
        for made in (MistralConfig(sliding_window=8, **shape), LlamaConfig(**shape))
    )
    assert use_attention(full, Train(max_steps=1)) == "shared" and full.config._attn_implementation == "sdpa_by_row"
    assert (
        use_attention(full, Train(max_steps=1, packing="none")) == "padded"
        and full.config._attn_implementation == "sdpa"
    )
    assert (
        use_attention(full, Train(max_steps=1, attention="eager")) == "flattened"
        and full.config._attn_implementation == "eager"
    )
    assert use_attention(window, Train(max_steps=1)) == "padded" and window.config._attn_implementation == "sdpa"
    with pytest.raises(InputError, match="sliding window"):
        use_attention(window, Train(max_steps=1, packing="sequence"))
