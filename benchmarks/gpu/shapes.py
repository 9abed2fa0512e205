"""Sizes of the models that the parts make, and what one token of them costs."""

from __future__ import annotations

# Llama-3.1-8B's config.json (Meta, 2024), sizes only.
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
}
TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 8192,
}
ROPE = {"rope_type": "default", "rope_theta": 500_000.0}


def flops_per_token(shape: dict[str, int], tokens: int) -> float:
    """Multiplications and additions of forward and backward where only LoRA learns: 4 a weight (2 forward, 2 for the
    inputs' gradients; frozen weights have none), and causal attention's two products, half of tokens x hidden each,
    three times (Kaplan 2020, section 2.1; Chowdhery 2022, B)."""
    hidden, heads, kv = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * hidden * kv // heads + 3 * hidden * shape["intermediate_size"]
    weights = shape["num_hidden_layers"] * layer + hidden * shape["vocab_size"]
    return 4 * weights + 3 * shape["num_hidden_layers"] * 2 * 2 * hidden * tokens / 2
