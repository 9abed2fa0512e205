"""What a run's rows are, in tokens: from its data card where `prepare` has written one, else as long as they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy

from configs.data_card import DataCard
from configs.run.config import RunConfig
from configs.run.train import Train
from train.batches.order import RowSchedule, order_rows
from train.data.lengths import load_chat_template
from train.rows.shape import answer_of
from train.sources.source import Row

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
    config: RunConfig, card: DataCard | None, data: Path, base: Path, steps: int, padding_free: bool
) -> RowFigures:
    """`base`: the directory of the tokenizer, which counts where it is there already."""
    longest, mean = row_lengths(card, config.data.max_tokens)
    splits = card["splits"] if card else {}
    return RowFigures(
        longest=longest,
        mean=mean,
        shared_prefix=shared_prefix_tokens(data, base, config.train.batch_size) if padding_free else 0,
        target_token_share=target_token_share(data, base, mean),
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


def target_token_share(data: Path, base: Path, mean: float) -> float:
    """Share of a row's tokens that its answer is, over the first rows; 1.0, the most there can be, where that is not
    known or every token is a target."""
    generated = [row for row in sampled_rows(data) if "messages" in row or "completion" in row]
    answers = [answer for row in generated if (answer := answer_of(row))]
    if not answers or not (base / "tokenizer.json").exists():
        return 1.0
    targets = sum(count + 1 for count in count_tokens(base, answers))  # and the token that ends it
    return min(1.0, targets / len(answers) / mean)


def shared_prefix_tokens(data: Path, base: Path, batch: int) -> int:
    """Tokens that the prompts of `batch` rows begin with alike, on average over the first rows; 0 where that is not
    known."""
    rows = sampled_rows(data)
    if not rows or "text" in rows[0] or not (base / "tokenizer.json").exists():
        return 0
    render = load_chat_template(base) if "messages" in rows[0] else None
    prompts = [render(row["messages"][:-1]) if render else str(row["prompt"]) for row in rows]
    groups = [prompts[start : start + batch] for start in range(0, max(1, len(prompts) - batch + 1), batch)]
    # what the first and the last in order begin with, all do
    prefixes = [common_prefix(min(group), max(group)) for group in groups]
    return sum(count_tokens(base, prefixes)) // len(groups)


def common_prefix(one: str, other: str) -> str:
    differing = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differing, min(len(one), len(other)))]


def sampled_rows(data: Path) -> list[Row]:
    import pyarrow.parquet

    if not (data / "train.parquet").exists():
        return []
    batch = next(pyarrow.parquet.ParquetFile(data / "train.parquet").iter_batches(SAMPLED_ROWS), None)
    return batch.to_pylist() if batch is not None else []


def count_tokens(base: Path, texts: list[str]) -> list[int]:
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_file(str(base / "tokenizer.json")).encode_batch_fast(texts, add_special_tokens=False)
    return [len(encoding.ids) for encoding in encodings]
