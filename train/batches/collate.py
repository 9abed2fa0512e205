"""How a micro-batch of a language model is laid out: padding-free, packed, or padded.

A target token is one whose label is not IGNORED: the loss mask leaves all others out. What is written here decides
which token is predicted from which; a mistake trains silently wrong, so `flatten` writes out an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise, takewhile
from typing import Any

from train.batches.dataset import EncodedRow

ModelInputs = dict[str, Any]  # keywords of a model's forward: tensors, and plain numbers beside them

IGNORED = -100  # torch's ignore_index: the label of a token that is not a target
# Target tokens whose logits are held at a time (train/layers/linear_cross_entropy.py): matrix products of fewer are
# slower.
HEAD_ROWS = 512


def pack(rows: Any, max_tokens: int) -> Any:
    """Rows joined to sequences of up to `max_tokens`, best fit decreasing (trl.data_utils); `seq_lengths` says where
    each row ends."""
    from trl.data_utils import pack_dataset

    return pack_dataset(
        rows.select_columns(["input_ids", "loss_mask"]), max_tokens, "bfd", {"load_from_cache_file": False}
    )


def flatten(rows: list[EncodedRow], share: bool = False) -> ModelInputs:
    """A padding-free batch: the rows one after the other as one sequence, (1, tokens), with positions of their own.

    Logits are computed only where the next token is a target (`logits_to_keep`): over the prompts' tokens the head, a
    quarter of SmolLM2's multiplications, would be computed for nothing. `shift_labels` holds those targets. With
    `share` the prefix that all rows share, a system prompt as a rule, comes once and before all rows
    (train/layers/attention.py).

    Two rows of four tokens, the last two of each its targets; `-` is IGNORED:

        row 1: input_ids 1 2 3 4, loss_mask 0 0 1 1, so labels - - 3 4
        row 2: input_ids 1 2 5 6, loss_mask 0 0 1 1, so labels - - 5 6

                          share=False           share=True
        input_ids         1 2 3 4  1 2 5 6      1  2 3 4  2 5 6
        position_ids      0 1 2 3  0 1 2 3      0  1 2 3  1 2 3
        next labels       - 3 4 -  - 5 6 -      -  3 4 -  5 6 -    (shift_left)
        logits_to_keep    1 2 5 6               1 2 4 5            where the next label is not IGNORED
        shift_labels      3 4 5 6               3 4 5 6            the next labels there
        cu_seq_lens       0 4 8                 1 4 7              where each row begins, and the end
        max_length        4                     3                  of the rows' own tokens

    The shared prefix is `1` and not `1 2`: the logits at `2` predict 3 in one row and 5 in the other.
    """
    import torch

    parts = [part for row in rows for part in sequences(row)]
    shared = shared_prefix_length(parts) if share else 0
    prefix, lengths = parts[0][0][:shared], [len(ids) - shared for ids, _ in parts]
    bounds = torch.tensor([*accumulate(lengths, initial=shared)], dtype=torch.int32)
    labels = torch.tensor([IGNORED] * shared + [label for _, labels in parts for label in labels[shared:]])
    next_labels = shift_left(labels, bounds)
    kept = (next_labels != IGNORED).nonzero().flatten()
    positions = [torch.arange(shared), *(torch.arange(shared, shared + length) for length in lengths)]
    return {
        "input_ids": torch.tensor([prefix + [token for ids, _ in parts for token in ids[shared:]]]),
        "position_ids": torch.cat(positions)[None],
        "logits_to_keep": kept,
        "labels": next_labels[None, kept],
        "shift_labels": next_labels[None, kept],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        # with a cache, transformers does not look for the rows' bounds, and its own attentions let them see each other
        "use_cache": False,
    }


def shift_left(labels: Any, bounds: Any) -> Any:
    """The label of the token after each, (tokens): what the logits at a position are to predict.

    A row's first token is predicted from nothing, least of all from the row before it; so the last token of each row
    predicts nothing. `bounds`: where each row begins, and the end of the last.
    """
    import torch

    predicted = labels.clone()
    predicted[bounds[:-1].long()] = IGNORED
    return torch.cat([predicted[1:], torch.tensor([IGNORED])])


def sequences(row: EncodedRow) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and labels of each row that was packed into this one."""
    bounds = [0, *accumulate(row.get("seq_lengths") or [len(row["input_ids"])])]
    labels = labels_of(row)
    yield from ((row["input_ids"][start:end], labels[start:end]) for start, end in pairwise(bounds))


def labels_of(row: EncodedRow) -> list[int]:
    """The row's tokens where they are targets, elsewhere IGNORED."""
    return [token if wanted else IGNORED for token, wanted in zip(row["input_ids"], row["loss_mask"], strict=True)]


def shared_prefix_length(parts: list[tuple[list[int], list[int]]]) -> int:
    """Tokens that all rows begin with alike, short of a target and of the token that predicts it; 0 of a single row."""
    if len(parts) < 2:
        return 0
    first_target = min(
        next((index for index, label in enumerate(labels) if label != IGNORED), len(labels)) for _, labels in parts
    )
    alike = takewhile(lambda tokens: len({*tokens}) == 1, zip(*(ids for ids, _ in parts), strict=False))
    return max(0, min(first_target - 1, sum(1 for _ in alike)))


def pad(rows: list[EncodedRow], pad_token_id: int) -> ModelInputs:
    """A micro-batch padded on the right, (rows, longest): for attention that cannot be padding-free."""
    return pad_ids(rows, pad_token_id) | {"labels": pad_lists(map(labels_of, rows), IGNORED)}


def pad_classes(rows: list[EncodedRow], pad_token_id: int, labels: list[str]) -> ModelInputs:
    """The same of whole texts; `labels`: a class index, 0.0 or 1.0 for each class, or a number, a row each."""
    import torch

    return pad_ids(rows, pad_token_id) | {"labels": torch.tensor([class_target(row, labels) for row in rows])}


def class_target(row: EncodedRow, labels: list[str]) -> int | float | list[float]:
    """A class index in the order of `labels`, a number, or 0.0 or 1.0 for each class."""
    if "value" in row:
        return float(row["value"])
    return [float(label in row["labels"]) for label in labels] if "labels" in row else labels.index(row["label"])


def pad_tags(rows: list[EncodedRow], pad_token_id: int, labels: list[str]) -> ModelInputs:
    """The same of tagged words: a word's tag stands at its first subword, and no other token is a target."""
    return pad_ids(rows, pad_token_id) | {"labels": pad_lists((tag_targets(row, labels) for row in rows), IGNORED)}


def tag_targets(row: EncodedRow, labels: list[str]) -> list[int]:
    found = [IGNORED] * len(row["input_ids"])
    for index, tag in zip(row["first_subwords"], row["tags"], strict=True):
        if index >= 0:  # a word of no token has none
            found[index] = labels.index(tag)
    return found


def pad_ids(rows: list[EncodedRow], pad_token_id: int) -> ModelInputs:
    import torch

    ids = [row["input_ids"] for row in rows]
    mask = pad_lists(([1] * len(row) for row in ids), 0)
    return {"input_ids": pad_lists(ids, pad_token_id), "attention_mask": mask.to(torch.long)}


def pad_lists(rows: Iterable[list[int]], value: int) -> Any:
    """(rows, longest)"""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
