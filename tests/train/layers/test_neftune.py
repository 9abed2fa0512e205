"""The noise on a token's embedding hangs on its own row, not on how rows are laid out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from train.batches.collate import flatten, pad
from train.layers.neftune import add_embedding_noise

pytestmark = pytest.mark.unit
ROWS = [{"input_ids": list(range(1, 1 + length)), "loss_mask": [True] * length} for length in (4, 16, 64)]


def noisy(path: Path) -> tuple[Any, list[Any]]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    add_embedding_noise(model, 5.0)
    seen: list[Any] = []
    weight: Any = model.get_input_embeddings().weight

    def keep(module: Any, given: Any, embedded: Any) -> None:
        seen.append((embedded - weight[given[0]]).detach())

    model.get_input_embeddings().register_forward_hook(keep)
    return model, seen


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_a_rows_noise_is_scaled_by_its_own_length_in_every_layout(tiny_gpt: Path, layout: str) -> None:
    model, seen = noisy(tiny_gpt)
    model.train()
    model(**(flatten(ROWS) if layout == "flat" else pad(ROWS, 0)))
    (noise,) = seen
    parts = noise[0].split([4, 16, 64]) if layout == "flat" else [noise[row, : 4 ** (row + 1)] for row in range(3)]
    for part, length in zip(parts, (4, 16, 64), strict=True):
        reach = 5.0 / math.sqrt(length * 64)
        assert 0.9 * reach < part.abs().max() <= reach * 1.0001


def test_evaluation_has_no_noise(tiny_gpt: Path) -> None:
    model, seen = noisy(tiny_gpt)
    model.eval()
    model(**flatten(ROWS))
    assert float(seen[0].abs().max()) == 0.0
