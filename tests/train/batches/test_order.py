"""Every row once before any comes again, like beside like."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.training.train import Train
from train.batches.order import RowSchedule, measure_lengths, order_rows, total_steps

pytestmark = pytest.mark.unit
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=120).map(numpy.array)


@pytest.mark.parametrize(
    ("section", "rows", "steps"),
    [
        ({"max_steps": 7}, 1000, 7),
        ({"epochs": 1, "batch_size": 8}, 16, 2),
        ({"epochs": 1, "batch_size": 8}, 17, 3),
        ({"epochs": 2.5, "batch_size": 10}, 40, 10),
        ({"epochs": 3, "batch_size": 8}, 12, 5),
        ({"epochs": 1, "batch_size": 4, "gradient_accumulation_steps": 3}, 25, 3),
        ({"epochs": 0.01, "batch_size": 8}, 8, 1),
        ({"epochs": 0.7, "batch_size": 1}, 10, 7),
    ],
)
def test_steps_of_a_training(section: dict[str, Any], rows: int, steps: int) -> None:
    assert total_steps(Train.model_validate(section), rows) == steps


@given(st.floats(0.1, 20), st.integers(1, 64), st.integers(1, 8), st.integers(1, 5000))
def test_steps_cover_every_epoch_and_not_one_batch_more(
    epochs: float, batch: int, accumulation: int, rows: int
) -> None:
    section = Train(epochs=epochs, batch_size=batch, gradient_accumulation_steps=accumulation)
    seen = total_steps(section, rows) * batch * accumulation
    assert rows * epochs - 1e-6 <= seen < max(rows * epochs, 1) + batch * accumulation


@given(LENGTHS, st.integers(1, 40), st.integers(1, 16), st.integers(0, 2**32 - 1), st.booleans())
def test_no_row_comes_again_before_every_row_has_come(
    lengths: Any, steps: int, batch: int, seed: int, grouped: bool
) -> None:
    order = order_rows(lengths, steps, batch, seed, grouped)
    assert len(order) == steps * batch
    counts = Counter(order.tolist())
    rounds = steps * batch // len(lengths)
    assert all(rounds <= counts[row] <= rounds + 1 for row in range(len(lengths)))


@given(LENGTHS, st.integers(1, 40), st.integers(1, 16), st.integers(0, 99), st.booleans())
def test_the_order_hangs_on_the_seed_alone_and_the_largest_batch_comes_first(
    lengths: Any, steps: int, batch: int, seed: int, grouped: bool
) -> None:
    order = order_rows(lengths, steps, batch, seed, grouped)
    assert order.tolist() == order_rows(lengths, steps, batch, seed, grouped).tolist()
    totals = lengths[order.reshape(steps, batch)].sum(axis=1)
    assert totals[0] == totals.max()


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = numpy.random.default_rng(0).integers(1, 200, size=4000)
    grouped, mixed = (
        RowSchedule(lengths[order_rows(lengths, 500, 8, 1, flag)], 8, 500, True, row_count=len(lengths)).padding_share
        for flag in (True, False)
    )
    assert grouped < 0.05 < 0.35 < mixed
    order = order_rows(lengths, 500, 8, 1, True).reshape(500, 8)
    means = lengths[order].mean(axis=1)
    assert abs(numpy.corrcoef(means, numpy.arange(500))[0, 1]) < 0.15, (
        "short batches and long ones come mixed, not in descending order"
    )


def test_another_seed_is_another_order() -> None:
    lengths = numpy.full(100, 7)
    assert order_rows(lengths, 10, 10, 1, False).tolist() != order_rows(lengths, 10, 10, 2, False).tolist()


def test_the_plan_counts_real_tokens_and_padding() -> None:
    schedule = RowSchedule(numpy.array([4, 2, 3, 3, 1, 1]), micro_batch=2, steps=3, padded=True, row_count=4)
    assert (schedule.real_tokens(0, 3), schedule.real_tokens(1, 2)) == (14, 6)
    assert schedule.padding_share == pytest.approx(2 / 16)
    assert RowSchedule(schedule.lengths, 2, 3, padded=False, row_count=4).padding_share == 0.0


@pytest.mark.parametrize("columns", [{"length": [3, 4], "note": ["a", "b"]}, {"input_ids": [[1, 2, 3], [1, 2, 3, 4]]}])
def test_lengths_are_those_of_prepare_or_of_packed_sequences(columns: dict[str, list[Any]]) -> None:
    from datasets import Dataset

    rows = Dataset.from_dict(columns)
    assert measure_lengths(rows).tolist() == [3, 4]
    assert measure_lengths(rows.select([1, 0, 1])).tolist() == [4, 3, 4]
