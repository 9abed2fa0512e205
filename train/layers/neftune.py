"""NEFTune: uniform noise on the embeddings while training (Jain et al. 2023, arXiv:2310.05914, algorithm 1).

transformers' own (integrations/neftune.py) scales it by the width of the whole batch, so that padding-free rows would
get the less of it the more of them lie side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def add_embedding_noise(model: Any, alpha: float) -> None:
    """Each token's embedding gets noise from ±alpha / sqrt(tokens of its row x hidden size), whatever the layout."""
    seen: dict[str, Any] = {}

    def before(module: Any, given: Any, named: Mapping[str, Any]) -> None:
        seen["bounds"], seen["mask"] = named.get("cu_seq_lens_q"), named.get("attention_mask")

    def after(module: Any, given: Any, embedded: Any) -> Any:
        if not module.training:
            return embedded
        lengths = row_lengths(embedded, seen.get("bounds"), seen.get("mask"))
        reach = alpha / (lengths * embedded.shape[-1]).sqrt()
        noise = torch.empty_like(embedded).uniform_(-1, 1)
        return embedded + noise * reach[..., None].to(embedded.dtype)

    model.register_forward_pre_hook(before, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(after)


def row_lengths(embedded: Any, bounds: Any, mask: Any) -> Any:
    """For each position of (rows, tokens) the tokens of the row that it belongs to. A shared prefix, before the first
    bound, is part of every row and gets the noise of the first one."""
    rows, tokens = embedded.shape[:2]
    if bounds is not None:
        own = bounds.to(embedded.device).long().diff()
        lengths = own + bounds[0].to(embedded.device)
        repeats = torch.cat([lengths[:1], own[1:]])
        return lengths.repeat_interleave(repeats)[None].float()
    if mask is not None and mask.dim() == 2:
        return mask.sum(dim=1, keepdim=True).clamp(min=1).expand(rows, tokens).float()
    return torch.full((rows, tokens), float(tokens), device=embedded.device)
