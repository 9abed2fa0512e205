"""Folds: each row is held out in exactly one, what belongs together stays together, labels are shared out evenly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.rows.data import Data
from train.data.folds import draw_folds, split_by_fold
from train.data.splits import TEST, TRAIN, UNUSED, VALIDATION, Drawn, draw_order
from train.data.table import COLUMNS, RowTable

pytestmark = pytest.mark.unit
FOLDS = st.integers(2, 10)
LABELS = st.lists(st.integers(0, 3), min_size=20, max_size=80)
SEEDS = st.integers(0, 2**32 - 1)


def order_of(count: int, seed: int = 17) -> Any:
    return draw_order(pyarrow.array([f"r{index}" for index in range(count)]), seed)


def drawn(fold: Any, group: Any, answer: Any) -> Drawn:
    count = len(fold)
    columns = {name: numpy.zeros(count, dtype=kind) for name, kind in COLUMNS.items()}
    columns |= {"group": group, "answer": answer, "identity": numpy.arange(1, count + 1, dtype="uint64")}
    table = RowTable(columns, ["rows.jsonl"], "label", Counter())
    near: Any = {}
    return Drawn(table, order_of(count), fold, near, fold)


def data(method: str, validation: int) -> Data:
    split = {"method": method, "by": "by" if method == "grouped" else None}
    return Data.model_validate(
        {"source": "files", "files": ["x.jsonl"], "split": split, "validation_rows": validation, "test_rows": 90}
    )


@given(LABELS, FOLDS, SEEDS)
def test_every_row_is_held_out_once_and_no_fold_has_two_more_of_a_label_than_another(
    labels: list[int], count: int, seed: int
) -> None:
    order, group = order_of(len(labels), seed), numpy.arange(len(labels))
    fold = draw_folds(order, count, group, numpy.array(labels))
    assert set(fold.tolist()) == set(range(count)), "no fold is empty, no row is in none"
    for label in set(labels):
        sizes = numpy.bincount(fold[numpy.array(labels) == label], minlength=count)
        assert sizes.max() - sizes.min() <= 1
    assert (draw_folds(order, count, group, numpy.array(labels)) == fold).all(), "seeded"


@given(st.lists(st.integers(0, 15), min_size=40, max_size=90), LABELS, st.integers(2, 5))
def test_no_group_is_in_two_folds(groups: list[int], labels: list[int], count: int) -> None:
    groups = [*range(count), *groups]
    strata = numpy.array([labels[index % len(labels)] for index in range(len(groups))])
    fold = draw_folds(order_of(len(groups)), count, numpy.array(groups), strata)
    assert set(fold.tolist()) == set(range(count))
    assert len({(group, int(number)) for group, number in zip(groups, fold, strict=True)}) == len(set(groups))


def test_rows_that_are_not_drawn_are_in_no_fold_and_another_seed_gives_others() -> None:
    group, stratum = numpy.arange(40), numpy.zeros(40)
    fold = draw_folds(order_of(40)[:30], 5, group, stratum)
    assert (fold == UNUSED).sum() == 10 and numpy.bincount(fold[fold != UNUSED]).tolist() == [6] * 5
    assert (draw_folds(order_of(40, 3), 5, group, stratum) != draw_folds(order_of(40), 5, group, stratum)).any()


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(InputError, match="found 3 rows or groups of them, expected 5 folds"):
        draw_folds(order_of(30), 5, numpy.arange(30) % 3, numpy.zeros(30))


@pytest.mark.parametrize("method", ["random", "stratified", "grouped"])
@given(LABELS, st.integers(2, 5), st.integers(1, 4))
def test_each_folds_model_trains_and_validates_on_the_other_rows_and_the_release_on_all(
    method: str, labels: list[int], count: int, validation: int
) -> None:
    rows = len(labels)
    group = numpy.arange(rows, dtype="uint64") // 2 + 1 if method == "grouped" else numpy.zeros(rows, dtype="uint64")
    answer = numpy.array(labels, dtype="uint64")
    units = group if method == "grouped" else numpy.arange(rows)
    fold = draw_folds(order_of(rows), count, units, answer)
    whole, folds = split_by_fold(drawn(fold, group, answer), data(method, validation))
    assert len(folds) == count and whole.fold is not None
    assert whole.members(TEST).all() and {*whole.split.tolist()} == {TRAIN, VALIDATION}
    held = numpy.zeros(rows, dtype=int)
    for number, one in enumerate(folds):
        assert (one.members(TEST) == (fold == number)).all()
        assert UNUSED not in one.split and (one.split == TRAIN).any()
        extra = 1 if method == "grouped" else 0  # the last group may bring one more
        assert validation <= (one.split == VALIDATION).sum() <= validation + extra
        if method == "grouped":
            assert all(len({*one.split[group == name]}) == 1 for name in group)
        held += one.members(TEST)
    assert (held == 1).all()
