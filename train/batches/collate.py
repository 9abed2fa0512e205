"""Which rows make which step, and how a micro-batch of a language model is laid out.

The order is a pure function of lengths and seed, spread over the whole training before it starts. So neither a resumed
run nor a smaller micro-batch nor a second process can change which rows a step learns from.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from typing import Any

import numpy

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.train import Train
from infra.files.atomic import clear_partials
from train.sources.reader import Row

IGNORED = -100
HEAD_ROWS = 512  # taught tokens whose logits are held at a time (train.head): matrix products of fewer are slower
BATCHES_SORTED_TOGETHER = 50  # as transformers' LengthGroupedSampler: enough for little padding, few enough to stay mixed
Lengths = numpy.ndarray[Any, numpy.dtype[numpy.int64]]


@dataclass(frozen=True)
class Plan:
    """Tokens of each row, in the order of training: `steps` times the effective batch of them, drawn from `row_count` rows."""

    lengths: Lengths
    micro_batch: int
    steps: int
    padded: bool
    row_count: int

    def epochs(self, step: int) -> float:
        """Passes over all rows by the end of `step`. The trainer's own count knows this plan only, and takes all of it for one."""
        return round(step * (len(self.lengths) // self.steps) / self.row_count, 4)

    def real_tokens(self, first_step: int, last_step: int) -> int:
        """Tokens that are no padding in the steps after `first_step`, up to and with `last_step`."""
        rows = len(self.lengths) // self.steps
        return int(self.lengths[first_step * rows : last_step * rows].sum())

    @property
    def padding_share(self) -> float:
        """Share of all computed positions that are padding."""
        if not self.padded:
            return 0.0
        return float(1 - self.lengths.sum() / (self.lengths.reshape(-1, self.micro_batch).max(axis=1).sum() * self.micro_batch))


def total_steps(settings: Train, row_count: int) -> int:
    """Optimizer steps of the whole training; the last one of an uneven number of epochs takes its missing rows from the next."""
    effective = settings.batch_size * settings.gradient_accumulation_steps
    return settings.max_steps or max(1, math.ceil(round(row_count * (settings.epochs or 0) / effective, 9)))


def order_rows(lengths: Lengths, steps: int, batch: int, seed: int, grouped: bool) -> Lengths:
    """Row indices for `steps` batches of `batch` rows: every row once before any comes again, shuffled anew each time.

    `grouped` puts rows of like length into one batch. The batch with the most tokens comes first: memory that does not
    suffice shall be found out at once.
    """
    generator = numpy.random.default_rng(seed)
    epochs = math.ceil(steps * batch / len(lengths))
    order = numpy.concatenate([generator.permutation(len(lengths)) for _ in range(epochs)])[: steps * batch]
    if grouped:
        size = max(1, min(BATCHES_SORTED_TOGETHER, steps // 4)) * batch
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        order = numpy.concatenate([generator.permutation(part[numpy.argsort(-lengths[part], kind="stable")].reshape(-1, batch)).ravel() for part in parts])
    batches = order.reshape(steps, batch)
    largest = int(lengths[batches].sum(axis=1).argmax())
    batches[[0, largest]] = batches[[largest, 0]]
    return batches.ravel()


def measure_lengths(rows: Any) -> Lengths:
    """Tokens of each row of an encoded `datasets.Dataset`, its input_ids or else all its columns of ids, read batch by batch."""
    import pyarrow.compute as compute

    columns = ["input_ids"] if "input_ids" in rows.column_names else [name for name in rows.column_names if name.endswith("ids")]
    batches = rows.select_columns(columns).with_format("arrow").iter(10_000)
    return numpy.concatenate([sum(compute.list_value_length(table[name]).to_numpy() for name in columns) for table in batches]).astype(numpy.int64)


@contextmanager
def open_splits(paths: RunPaths) -> Iterator[tuple[Any, Any]]:
    """The train and the validation split as memory-mapped `datasets.Dataset`s; what is made of them is kept beside them on disk.

    Raises InputError where prepare has not written them.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()  # to stderr, where the training's own bar is
    files = [paths.data / "train.parquet", paths.data / "validation.parquet"]
    for path in files:
        if not path.exists():
            raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    clear_partials(paths.root / "cache")
    cache = paths.root / f".cache.{os.getpid()}.partial"
    try:
        train, validation = (Dataset.from_parquet(str(path), cache_dir=str(cache / path.stem)) for path in files)
        yield train, validation
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def encode(rows: Any, encode_rows: Callable[[list[Row]], list[dict[str, Any]]]) -> Any:
    """A Dataset of encoded rows, batch by batch on disk: memory stays flat however many there are."""

    def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = encode_rows([dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)])
        return {name: [row[name] for row in encoded] for name in encoded[0]}

    return rows.map(encode_batch, batched=True, remove_columns=rows.column_names, load_from_cache_file=False, new_fingerprint=f"encoded-{os.urandom(8).hex()}")


def pack(rows: Any, max_tokens: int) -> Any:
    """Rows joined to sequences of up to `max_tokens`, best fit decreasing (trl.data_utils); `seq_lengths` says where each row ends."""
    from trl.data_utils import pack_dataset

    return pack_dataset(rows.select_columns(["input_ids", "labels"]), max_tokens, "bfd", {"load_from_cache_file": False})


def flatten(rows: list[dict[str, Any]], share: bool = False) -> dict[str, Any]:
    """A micro-batch of rows end to end, (1, tokens), with no padding; positions start anew in each row.

    Logits are wanted only where the next token is taught (`logits_to_keep`): over the prompt's tokens the head, a quarter
    of SmolLM2's multiplications, would be computed for nothing. `shift_labels` is what those logits shall be. With `share`
    the tokens that all rows begin with, a system prompt as a rule, come once and before all rows (train.attention).
    """
    import torch

    parts = [part for row in rows for part in sequences(row)]
    shared = shared_beginning(parts) if share else 0
    first, lengths = parts[0][0][:shared], [len(ids) - shared for ids, _ in parts]
    labels = torch.tensor([IGNORED] * shared + [label for _, taught in parts for label in taught[shared:]])
    bounds = torch.tensor([*accumulate(lengths, initial=shared)], dtype=torch.int32)
    labels[bounds[:-1].long()] = IGNORED  # nothing stands before a row's first token, least of all the row before it
    shifted = torch.cat([labels[1:], torch.tensor([IGNORED])])
    kept = (shifted != IGNORED).nonzero().flatten()
    return {
        "input_ids": torch.tensor([first + [token for ids, _ in parts for token in ids[shared:]]]),
        "position_ids": torch.cat([torch.arange(shared), *(torch.arange(shared, shared + length) for length in lengths)])[None],
        "logits_to_keep": kept,
        "labels": shifted[None, kept],
        "shift_labels": shifted[None, kept],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "use_cache": False,  # with a cache, transformers does not look for the rows' bounds, and its own attentions let them see each other
    }


def sequences(row: dict[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and labels of each row that was packed into this one."""
    bounds = [0, *accumulate(row.get("seq_lengths") or [len(row["input_ids"])])]
    yield from ((row["input_ids"][start:end], row["labels"][start:end]) for start, end in pairwise(bounds))


def shared_beginning(parts: list[tuple[list[int], list[int]]]) -> int:
    """How many tokens all rows begin with alike, short of those that are taught or foretell one; 0 of a single row."""
    if len(parts) < 2:
        return 0
    untaught = min(next((index for index, label in enumerate(labels) if label != IGNORED), len(labels)) for _, labels in parts)
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
