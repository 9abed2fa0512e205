"""What a run's rows are, in tokens: from its data card where `prepare` has written one, else as long as they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy

from configs.data_card import DataCard
from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.train import Train
from train.batches.collate import labels_of, shared_prefix_length
from train.batches.dataset import EncodedRow
from train.batches.order import RowSchedule, order_rows
from train.data.prepared import count_rows, read_tokens

SAMPLED_ROWS = 500
SAMPLED_LENGTHS = 10_000


@dataclass(frozen=True)
class RowFigures:
    """Tokens of the longest and of the mean row, and how many rows are held out.

    `shared_prefix`: tokens that the rows of a micro-batch begin with alike, computed once. `target_token_share`: of a
    row's tokens those that have a loss. `padding`: share of a micro-batch's positions that are none of its rows'.
    """

    longest: int
    mean: float
    shared_prefix: int
    target_token_share: float
    validation: int
    test: int
    padding: float = 0.0


def describe_rows(
    config: RunConfig, card: DataCard | None, paths: RunPaths, steps: int, padding_free: bool
) -> RowFigures:
    """Of the rows that prepare has made, else as long and as many as they may be."""
    sample = sampled_rows(paths) if card else []
    longest, mean = row_lengths(card, config.data.max_tokens)
    splits = card["splits"] if card else {}
    return RowFigures(
        longest=longest,
        mean=mean,
        shared_prefix=shared_prefix_tokens(sample, config.train.batch_size) if padding_free else 0,
        target_token_share=target_token_share(sample),
        validation=splits["validation"]["rows"] if "validation" in splits else config.data.validation_rows,
        test=splits["test"]["rows"] if "test" in splits else config.data.test_rows,
        padding=0.0 if padding_free else padding_share(card, config.train, steps),
    )


def row_lengths(card: DataCard | None, bound: int) -> tuple[int, float]:
    """Tokens of the longest and of the mean row, from the card's histogram; `bound` twice where it has none."""
    if not card or not sum(card["lengths"]["counts"]):
        return bound, float(bound)
    counts, edges = card["lengths"]["counts"], card["lengths"]["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    mean = sum(count * middle for count, middle in zip(counts, middles, strict=True)) / sum(counts)
    return min(bound, math.ceil(edges[-1])), mean


def padding_share(card: DataCard | None, settings: Train, steps: int) -> float:
    """As training will order rows of such lengths, a sample of them drawn from the card's histogram; 0.0 where their
    lengths are not known."""
    if not card or not sum(card["lengths"]["counts"]) or not card["splits"]["train"]["rows"]:
        return 0.0
    counts, edges = numpy.array(card["lengths"]["counts"]), numpy.array(card["lengths"]["edges"])
    rows, effective = card["splits"]["train"]["rows"], settings.batch_size * settings.gradient_accumulation_steps
    drawn = numpy.random.default_rng(settings.seed).choice(
        (edges[:-1] + edges[1:]) // 2, min(rows, SAMPLED_LENGTHS), p=counts / counts.sum()
    )
    steps = min(steps, max(1, SAMPLED_LENGTHS // effective))
    order = order_rows(drawn, steps, effective, settings.seed, grouped=settings.length_grouping)
    return RowSchedule(drawn[order], settings.batch_size, steps, True, rows).padding_share


def target_token_share(rows: list[EncodedRow]) -> float:
    """Share of the rows' tokens that are targets; of a pair those of its longer answer. 1.0, the most there can be,
    where that is not known."""
    total = sum(row["length"] for row in rows)
    if not total or not ("loss_mask" in rows[0] or "chosen_ids" in rows[0]):
        return 1.0
    targets = [sum(row["loss_mask"]) if "loss_mask" in row else row["length"] - len(row["prompt_ids"]) for row in rows]
    return float(sum(targets)) / float(total)


def shared_prefix_tokens(rows: list[EncodedRow], batch: int) -> int:
    """Tokens that `batch` rows begin with alike, on average over the micro-batches of these; 0 where no token but a
    target is known."""
    if not rows or "loss_mask" not in rows[0]:
        return 0
    groups = [rows[start : start + batch] for start in range(0, max(1, len(rows) - batch + 1), batch)]
    return sum(shared_prefix_length([(row["input_ids"], labels_of(row)) for row in group]) for group in groups) // len(
        groups
    )


def sampled_rows(paths: RunPaths) -> list[EncodedRow]:
    """The first train rows' tokens; none where prepare has not made them."""
    try:
        return read_tokens(paths, "train", list(range(min(SAMPLED_ROWS, count_rows(paths, "train")))))
    except InputError:
        return []
