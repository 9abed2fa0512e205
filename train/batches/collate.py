"""Which rows make which step, and how a micro-batch of a language model is laid out.

The order is a pure function of lengths and seed, spread over the whole training before it starts. So neither a resumed
run nor a smaller micro-batch nor a second process can change which rows a step learns from.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise, takewhile
from typing import Any

IGNORED = -100
HEAD_ROWS = 512  # taught tokens whose logits are held at a time (train.head): matrix products of fewer are slower


def pack(rows: Any, max_tokens: int) -> Any:
    """Rows joined to sequences of up to `max_tokens`, best fit decreasing (trl.data_utils); `seq_lengths` says where
    each row ends."""
    from trl.data_utils import pack_dataset

    return pack_dataset(
        rows.select_columns(["input_ids", "labels"]), max_tokens, "bfd", {"load_from_cache_file": False}
    )


def flatten(rows: list[dict[str, Any]], share: bool = False) -> dict[str, Any]:
    """A micro-batch of rows end to end, (1, tokens), with no padding; positions start anew in each row.

    Logits are wanted only where the next token is taught (`logits_to_keep`): over the prompt's tokens the head, a
    quarter of SmolLM2's multiplications, would be computed for nothing. `shift_labels` is what those logits shall be.
    With `share` the tokens that all rows begin with, a system prompt as a rule, come once and before all rows
    (train.attention).
    """
    import torch

    parts = [part for row in rows for part in sequences(row)]
    shared = shared_prefix_length(parts) if share else 0
    first, lengths = parts[0][0][:shared], [len(ids) - shared for ids, _ in parts]
    labels = torch.tensor([IGNORED] * shared + [label for _, taught in parts for label in taught[shared:]])
    bounds = torch.tensor([*accumulate(lengths, initial=shared)], dtype=torch.int32)
    labels[bounds[:-1].long()] = IGNORED  # nothing stands before a row's first token, least of all the row before it
    shifted = torch.cat([labels[1:], torch.tensor([IGNORED])])
    kept = (shifted != IGNORED).nonzero().flatten()
    return {
        "input_ids": torch.tensor([first + [token for ids, _ in parts for token in ids[shared:]]]),
        "position_ids": torch.cat(
            [torch.arange(shared), *(torch.arange(shared, shared + length) for length in lengths)]
        )[None],
        "logits_to_keep": kept,
        "labels": shifted[None, kept],
        "shift_labels": shifted[None, kept],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        # with a cache, transformers does not look for the rows' bounds, and its own attentions let them see each other
        "use_cache": False,
    }


def sequences(row: dict[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and labels of each row that was packed into this one."""
    bounds = [0, *accumulate(row.get("seq_lengths") or [len(row["input_ids"])])]
    yield from ((row["input_ids"][start:end], row["labels"][start:end]) for start, end in pairwise(bounds))


def shared_prefix_length(parts: list[tuple[list[int], list[int]]]) -> int:
    """How many tokens all rows begin with alike, short of those that are taught or foretell one; 0 of a single row."""
    if len(parts) < 2:
        return 0
    untaught = min(
        next((index for index, label in enumerate(labels) if label != IGNORED), len(labels)) for _, labels in parts
    )
    alike = takewhile(lambda tokens: len({*tokens}) == 1, zip(*(ids for ids, _ in parts), strict=False))
    return max(0, min(untaught - 1, sum(1 for _ in alike)))


def pad(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Any]:
    """A micro-batch of rows on the left, (rows, longest): for attention that cannot be flattened."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids, labels = ([torch.tensor(row[name]) for row in rows] for name in ("input_ids", "labels"))
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
