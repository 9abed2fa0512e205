"""Which rows make which step: the order of rows, and the steps that they come to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy

from configs.training.train import Train

BATCHES_SORTED_TOGETHER = (
    50  # as transformers' LengthGroupedSampler: enough for little padding, few enough to stay mixed
)


Lengths = numpy.ndarray[Any, numpy.dtype[numpy.int64]]


@dataclass(frozen=True)
class RowSchedule:
    """Tokens of each row, in the order of training: `steps` times the effective batch of them, drawn from `row_count`
    rows."""

    lengths: Lengths
    micro_batch: int
    steps: int
    padded: bool
    row_count: int

    def epochs(self, step: int) -> float:
        """Passes over all rows by the end of `step`. The trainer's own count knows this schedule only, and takes all of
        it for one."""
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
        return float(
            1 - self.lengths.sum() / (self.lengths.reshape(-1, self.micro_batch).max(axis=1).sum() * self.micro_batch)
        )


def total_steps(settings: Train, row_count: int) -> int:
    """Optimizer steps of the whole training; the last one of an uneven number of epochs takes its missing rows from the
    next."""
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
        order = numpy.concatenate(
            [
                generator.permutation(part[numpy.argsort(-lengths[part], kind="stable")].reshape(-1, batch)).ravel()
                for part in parts
            ]
        )
    batches = order.reshape(steps, batch)
    largest = int(lengths[batches].sum(axis=1).argmax())
    batches[[0, largest]] = batches[[largest, 0]]
    return batches.ravel()


def measure_lengths(rows: Any) -> Lengths:
    """Tokens of each row of a prepared `datasets.Dataset`, or of each sequence that was packed of them, read batch by
    batch."""
    import pyarrow.compute as compute

    name = "length" if "length" in rows.column_names else "input_ids"
    batches = (table[name] for table in rows.select_columns([name]).with_format("arrow").iter(10_000))
    measured = [batch if name == "length" else compute.list_value_length(batch) for batch in batches]
    return numpy.concatenate([batch.to_numpy() for batch in measured]).astype(numpy.int64)
