"""Attention over a padding-free batch: each row attends to itself and to the prefix that all share, by construction
and not by a mask."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any, Literal

from configs.errors import InputError
from configs.training.train import Train

NAME = "sdpa_by_row"


def attend_by_row(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Any = None,
    **named: Any,
) -> tuple[Any, None]:
    """Causal attention of each row by itself. query (1, heads, tokens, head size), key and value with their own number
    of heads.

    Tokens before the first bound are the shared prefix: it lies there once, and each row attends to it too. Returns
    (1, tokens, heads, head size), as transformers' AttentionInterface wants it. A block-diagonal mask gives the same
    and costs the square of all rows' tokens; this costs the sum of the squares.
    """
    import torch

    if unknown := [name for name in ("softcap", "s_aux", "sliding_window") if named.get(name) is not None]:
        raise ValueError(f"{NAME} found {', '.join(unknown)}, which it would leave out")
    if cu_seq_lens_q is None:
        raise ValueError(f"{NAME} found no cu_seq_lens_q: without the rows' bounds it would let them see each other")
    bounds = cu_seq_lens_q.tolist()
    shared, lengths = bounds[0], [end - start for start, end in pairwise(bounds)]
    heads, *rows = zip(*(one.split([shared, *lengths], dim=2) for one in (query, key, value)), strict=True)
    attend, grouped, found = torch.nn.functional.scaled_dot_product_attention, key.shape[1] != query.shape[1], []
    for index, row in enumerate(rows):
        queries, keys, values = (torch.cat(parts, dim=2) for parts in zip(heads, row, strict=True)) if shared else row
        whole = attend(queries, keys, values, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped)
        found.append(whole[:, :, shared:] if index else whole)  # the prefix's own answer is the same in every row
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


def register() -> str:
    """Makes the name known to transformers. It asks for no mask: the bounds come with the batch."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend_by_row)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    return NAME


def why_not_flattened(model: Any) -> str | None:
    """What keeps a model of transformers from padding-free batches, or None.

    Its attention must go through the AttentionInterface and be full: a sliding window or a recurrent layer would need
    more than the rows' bounds. `logits_to_keep` must be among its forward's arguments.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} has an attention of its own"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "attention whose scores are capped"
    if layers != {"full_attention"} or getattr(config, "sliding_window", None):
        return f"layers of {', '.join(sorted(layers | {'sliding window'}))}"
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return f"{type(model).__name__} computes its head on every token"
    return None


def use_attention(model: Any, settings: Train) -> Literal["padded", "flattened", "shared"]:
    """Sets the attention of a causal language model that is to be trained; whether batches may be padding-free, and
    whether their rows may share a prefix.

    Raises InputError where packing is asked for and this model cannot have it.
    """
    problem = why_not_flattened(model)
    if problem and settings.packing in ("batch", "sequence"):
        raise InputError(
            f"train.packing: found {problem}, expected full attention for {settings.packing}",
            hint="--set train.packing=none",
        )
    flattened = problem is None and settings.packing != "none"
    chosen = settings.attention if settings.attention != "auto" else model.config._attn_implementation
    shared = flattened and chosen == "sdpa"
    set_attention(model, register() if shared else chosen)
    return "shared" if shared else "flattened" if flattened else "padded"


def set_attention(model: Any, name: str) -> None:
    """Raises InputError where this model or this machine has no such attention."""
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"train.attention: found {name}: {said}", hint="--set train.attention=auto") from error
