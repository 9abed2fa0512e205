"""What rows are in tokens: from the data card and the first rows, else as long as they may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.train import Train
from tests.support.prepared_rows import with_tokens, write_rows
from train.data.prepared import read_tokens
from train.estimate.devices import find_device
from train.estimate.row_figures import padding_share, row_lengths, shared_prefix_tokens, target_token_share
from train.estimate.workload import describe_workload, find_shape
from train.model.base import make_base

pytestmark = pytest.mark.unit


def card_of(counts: list[int], edges: list[int]) -> Any:
    """As much of a data card as is read here."""
    return {"splits": {"train": {"rows": 4000}}, "lengths": {"counts": counts, "edges": edges}}


@pytest.mark.parametrize(("lengths", "low", "high"), [([16], 0.0, 0.0), ([16, 64], 0.01, 0.2)])
def test_padding_is_that_of_rows_ordered_as_training_orders_them(lengths: list[int], low: float, high: float) -> None:
    card = card_of([1] * len(lengths), [lengths[0], *lengths])
    grouped = padding_share(card, Train(max_steps=100, batch_size=8), 100)
    assert low <= grouped <= high
    loose = padding_share(card, Train(max_steps=100, batch_size=8, length_grouping=False), 100)
    assert loose >= grouped and padding_share(None, Train(max_steps=1), 1) == 0.0


def test_lengths_and_rows_come_from_the_data_card(chat: Callable[..., RunConfig]) -> None:
    config, paths = chat(train={"max_steps": None, "epochs": 3}), RunPaths.of("tiny-chat")
    paths.data.mkdir(parents=True)
    card = {
        "splits": {"train": {"rows": 10}, "validation": {"rows": 7}, "test": {"rows": 5}},
        "lengths": {"counts": [1, 3], "edges": [20, 40, 60]},
    }
    (paths.data / "data_card.json").write_text(json.dumps(card))
    load = describe_workload(config, find_shape(config), paths, find_device("l4-24gb"))
    rows = load.rows
    assert (rows.longest, rows.mean, rows.target_token_share, rows.validation) == (60, 45.0, 1.0, 7)
    assert load.compute.steps == 8
    turns = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "d"}]
    write_rows(
        paths.data / "train.parquet", make_base(config), "chat", [{"id": "1", "messages": turns, "reference": "d"}]
    )
    (row,) = read_tokens(paths, "train")
    load = describe_workload(config, find_shape(config), paths, find_device("l4-24gb"))
    assert load.rows.target_token_share == 3 / row["length"], "the answer's letter, its end and the line break after it"


def test_what_prompts_begin_with_alike_is_counted_by_micro_batches(
    chat: Callable[..., RunConfig],
) -> None:
    base = make_base(chat())
    whole = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "d"}]
        for text in ("abcx", "abcy", "abcx", "x")
    ]
    rows = with_tokens(base, "chat", [{"messages": messages} for messages in whole])
    letters = [shared_prefix_tokens(rows, batch) for batch in (2, 4)]
    assert letters[0] - letters[1] == 1, (
        "abc of the first two and nothing of the others, beside what the template says first"
    )
    texts = with_tokens(base, "text", [{"text": "abc"}, {"text": "abd"}])
    assert shared_prefix_tokens(texts, 2) == 0, "of a text every token is a target"


def test_without_a_card_every_row_is_as_long_as_can_be_and_all_targets() -> None:
    assert row_lengths(None, 160) == row_lengths(card_of([], []), 160) == (160, 160.0)
    assert target_token_share([]) == 1.0 and shared_prefix_tokens([], 8) == 0
