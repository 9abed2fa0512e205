"""Attention over a padding-free batch: each row attends to itself and to the prefix that all share, by construction
and not by a mask."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from configs.errors import InputError
from configs.training.train import Train

NAME = "sdpa_by_row"
PACKED = "varlen"


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

    require_plain(NAME, cu_seq_lens_q, named)
    bounds = cu_seq_lens_q.tolist()
    shared, lengths = bounds[0], [end - start for start, end in pairwise(bounds)]
    heads, *rows = zip(*(one.split([shared, *lengths], dim=2) for one in (query, key, value)), strict=True)
    attend, grouped, found = torch.nn.functional.scaled_dot_product_attention, key.shape[1] != query.shape[1], []
    for index, row in enumerate(rows):
        queries, keys, values = (torch.cat(parts, dim=2) for parts in zip(heads, row, strict=True)) if shared else row
        whole = attend(queries, keys, values, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped)
        found.append(whole[:, :, shared:] if index else whole)  # the prefix's own answer is the same in every row
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


def attend_packed(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Any = None,
    max_length_q: int | None = None,
    dtype: Any = None,
    **named: Any,
) -> tuple[Any, None]:
    """The same of rows that share no prefix, all in one call of torch's own FlashAttention (torch.nn.attention.varlen):
    no loop, and no bound is read back from the GPU. In `dtype`, a half precision, for the kernel knows no other."""
    from torch.nn.attention.varlen import varlen_attn

    require_plain(PACKED, cu_seq_lens_q, named)
    if dropout:
        raise ValueError(f"{PACKED} found dropout {dropout}, which it would leave out")
    queries, keys, values = (one[0].transpose(0, 1).to(dtype) for one in (query, key, value))
    bounds, longest = cu_seq_lens_q, max_length_q or 0
    # of fewer heads of keys than of queries torch wants to be told; torch 2.11 knows no word for it, and takes them
    grouped = {"enable_gqa": keys.shape[1] != queries.shape[1]}
    told = grouped if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    found: Any = varlen_attn(
        queries,
        keys,
        values,
        bounds,
        bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),  # causal
        **told,
    )
    return found[None].to(query.dtype), None


def require_plain(name: str, bounds: Any, named: Mapping[str, Any]) -> None:
    """Raises ValueError where rows would be attended to otherwise than their model means."""
    if unknown := [key for key in ("softcap", "s_aux", "sliding_window") if named.get(key) is not None]:
        raise ValueError(f"{name} found {', '.join(unknown)}, which it would leave out")
    if bounds is None:
        raise ValueError(f"{name} found no cu_seq_lens_q: without the rows' bounds it would let them see each other")


def register(name: str = NAME, attend: Callable[..., Any] = attend_by_row) -> str:
    """Makes the name known to transformers. It asks for no mask: the bounds come with the batch."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, lambda *_, **__: None)
    return name


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


def use_attention(model: Any, settings: Train, dtype: str = "float32") -> Literal["padded", "flattened", "shared"]:
    """Sets the attention of a causal language model that is to be trained in `dtype`; whether batches may be
    padding-free, and whether their rows may share a prefix. The one place where it is chosen.

    Raises InputError where packing is asked for and this model cannot have it.
    """
    import torch

    problem = why_not_flattened(model)
    if problem and settings.packing in ("batch", "sequence"):
        raise InputError(
            f"train.packing: found {problem}, expected full attention for {settings.packing}",
            hint="--set train.packing=none",
        )
    chosen = settings.attention if settings.attention != "auto" else model.config._attn_implementation
    if problem is not None or settings.packing == "none":
        set_attention(model, chosen)
        return "padded"
    if chosen != "sdpa":
        set_attention(model, chosen)
        return "flattened"
    if torch.cuda.is_available():
        set_attention(model, attention_on_gpu(model, dtype))
        return "flattened"
    set_attention(model, register())
    return "shared"


def attention_on_gpu(model: Any, dtype: str) -> str:
    """Of padding-free rows on a GPU: FlashAttention by the rows' bounds, in half precision and without dropout. Else
    transformers' SDPA, which makes a mask of the position ids and pays for the square of all rows' tokens."""
    import torch

    config = model.config.get_text_config()
    if dtype == "float32" or getattr(config, "attention_dropout", None):
        return "sdpa"
    half: Any = getattr(torch, dtype)
    return register(PACKED, partial(attend_packed, dtype=half))


def set_attention(model: Any, name: str) -> None:
    """Raises InputError where this model or this machine has no such attention."""
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"train.attention: found {name}: {said}", hint="--set train.attention=auto") from error
