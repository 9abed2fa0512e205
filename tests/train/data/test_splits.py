"""Splits: disjoint, complete, seeded, and true to what each method promises."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pyarrow
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.rows.data import Data
from train.data.splits import TEST, TRAIN, UNUSED, VALIDATION, assign, draw_order, shuffled

pytestmark = pytest.mark.unit
COUNTS = st.integers(min_value=30, max_value=90)
SIZES = st.integers(min_value=1, max_value=12)
SEEDS = st.integers(0, 2**32 - 1)


def settings(method: str = "random", **changes: Any) -> Data:
    split = {"method": method, "by": "by" if method in ("grouped", "temporal") else None}
    own = {"source": "files", "files": ["x.jsonl"]} | (
        {"validation_files": ["y.jsonl"], "test_files": ["z.jsonl"]} if method == "given" else {}
    )
    return Data.model_validate(own | {"validation_rows": 4, "test_rows": 6, "split": split} | changes)


def names(count: int) -> list[str]:
    return [f"r{index}" for index in range(count)]


def split(count: int, data: Data, *, grouped: bool = False, **columns: Any) -> Any:
    zeros = {name: numpy.zeros(count, dtype="int64") for name in ("part", "group", "time", "stratum")}
    given_columns = {name: numpy.array(values) for name, values in columns.items()}
    return assign(draw_order(pyarrow.array(names(count)), data.seed), data, grouped=grouped, **(zeros | given_columns))


def rows(found: Any, code: int) -> set[int]:
    return set(numpy.flatnonzero(found == code).tolist())


@given(COUNTS, SIZES, SIZES, SEEDS)
def test_every_row_is_in_exactly_one_split_of_the_size_asked_for(
    count: int, validation: int, test: int, seed: int
) -> None:
    found = split(count, settings(validation_rows=validation, test_rows=test, seed=seed))
    assert [len(rows(found, code)) for code in (TRAIN, VALIDATION, TEST)] == [
        count - validation - test,
        validation,
        test,
    ]


@given(st.permutations(names(40)), SEEDS)
def test_the_order_in_which_rows_come_does_not_matter(shuffled: list[str], seed: int) -> None:
    drawn = [shuffled[index] for index in draw_order(pyarrow.array(shuffled), seed)]
    assert drawn == random.Random(seed).sample(sorted(shuffled), 40)


@pytest.mark.parametrize("method", ["random", "stratified", "grouped", "temporal"])
@given(max_rows=st.integers(min_value=40, max_value=90), seed=SEEDS)
def test_runs_that_differ_in_max_rows_hold_out_the_same_rows(method: str, max_rows: int, seed: int) -> None:
    columns: dict[str, Any] = {
        "stratum": [index % 3 for index in range(90)],
        "group": [index // 4 for index in range(90)],
        "time": [index % 31 for index in range(90)],
    }
    whole, part = (
        split(90, settings(method, seed=seed), **columns),
        split(90, settings(method, seed=seed, max_rows=max_rows), **columns),
    )
    assert rows(part, TEST) == rows(whole, TEST) and rows(part, VALIDATION) == rows(whole, VALIDATION)
    assert rows(part, TRAIN) <= rows(whole, TRAIN) and len(rows(part, UNUSED)) == 90 - max_rows


def test_another_seed_draws_other_test_rows() -> None:
    assert rows(split(60, settings(seed=1)), TEST) != rows(split(60, settings(seed=2)), TEST)


@given(st.lists(st.integers(0, 8), min_size=30, max_size=90), SIZES, SIZES, SEEDS)
def test_each_label_has_its_share_of_the_held_out_rows_to_within_one_row(
    labels: list[int], validation: int, test: int, seed: int
) -> None:
    found = split(
        len(labels), settings("stratified", validation_rows=validation, test_rows=test, seed=seed), stratum=labels
    )
    for code, wanted in ((TEST, test), (VALIDATION, validation)):
        assert len(rows(found, code)) == wanted
        for label in set(labels):
            share = wanted * labels.count(label) / len(labels)
            assert abs(sum(labels[row] == label for row in rows(found, code)) - share) < 1


@given(st.lists(st.integers(0, 30), min_size=60, max_size=90), SIZES, SIZES, SEEDS)
def test_each_label_has_a_train_row_where_there_are_rows_enough(
    labels: list[int], validation: int, test: int, seed: int
) -> None:
    assume(len(labels) - len(set(labels)) >= validation + test)
    found = split(
        len(labels), settings("stratified", validation_rows=validation, test_rows=test, seed=seed), stratum=labels
    )
    assert {labels[row] for row in rows(found, TRAIN)} == set(labels)
    assert len(rows(found, TEST)) == test and len(rows(found, VALIDATION)) == validation


@given(st.lists(st.integers(0, 12), min_size=40, max_size=90), SIZES, SIZES, SEEDS)
def test_a_group_is_never_in_two_splits(groups: list[int], validation: int, test: int, seed: int) -> None:
    try:
        found = split(
            len(groups), settings("grouped", validation_rows=validation, test_rows=test, seed=seed), group=groups
        )
    except InputError:
        assume(False)
    members = [{groups[row] for row in rows(found, code)} for code in (TRAIN, VALIDATION, TEST)]
    assert sum(map(len, members)) == len(set(groups)), "and every group is in one"
    assert len(rows(found, TEST)) >= test and len(rows(found, VALIDATION)) >= validation


@given(st.lists(st.integers(-5, 20), min_size=30, max_size=90), SEEDS, st.sampled_from([None, 25]))
def test_no_held_out_row_is_older_than_a_row_that_is_trained_on(
    times: list[int], seed: int, max_rows: int | None
) -> None:
    found = split(len(times), settings("temporal", seed=seed, max_rows=max_rows), time=times)
    unused, train, validation, test = (
        [times[row] for row in rows(found, code)] for code in (UNUSED, TRAIN, VALIDATION, TEST)
    )
    assert max(unused, default=-9) <= min(train) and max(train) <= min(validation) and max(validation) <= min(test)


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=6))
def test_given_splits_stay_as_they_are_given(parts: list[int]) -> None:
    assume({1, 2, 3} == set(parts))
    found = split(len(parts), settings("given"), part=parts)
    assert [rows(found, code) for code in (TRAIN, VALIDATION, TEST)] == [
        {row for row, part in enumerate(parts) if part == code} for code in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("count", "data", "columns", "why"),
    [
        (10, settings(), {}, "found 10 usable rows, expected at least 11"),
        (60, settings(max_rows=10), {}, "found 10 usable rows"),
        (60, settings("grouped"), {}, "'train': 0"),
        (60, settings("given"), {"part": [1] * 60}, "'validation': 0"),
    ],
)
def test_too_few_rows_say_how_many_there_are(count: int, data: Data, columns: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        split(count, data, **columns)


@given(st.lists(st.integers(0, 30), min_size=60, max_size=90), SEEDS)
def test_rows_drawn_at_random_keep_together_where_they_must_and_are_else_drawn_as_ever(
    groups: list[int], seed: int
) -> None:
    data = settings(seed=seed)
    try:
        found = split(len(groups), data, group=groups, grouped=True)
    except InputError:
        assume(False)
    members = [{groups[row] for row in rows(found, code)} for code in (TRAIN, VALIDATION, TEST)]
    assert sum(map(len, members)) == len(set(groups))
    alone = split(60, data, group=range(60), grouped=True)
    assert (alone == split(60, data)).all(), "each in a group of its own"


@given(st.integers(0, 300), st.integers(0, 2**32))
def test_rows_are_drawn_as_by_the_standard_library(count: int, seed: int) -> None:
    """So the splits of runs that were prepared before stay what they are."""
    assert shuffled(count, seed).tolist() == random.Random(seed).sample(range(count), count)
