"""A training that learnt nothing is known by its figures; one that learnt a little is not taken for it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from configs.run.config import RunConfig
from tests.support.run_yaml import changed
from train.loop.constant import find_nothing_learnt, is_above_zero, refuse_nothing_learnt

pytestmark = pytest.mark.unit
CLASSES: dict[str, Any] = {"step": 9, "eval_distinct_answers": 1, "eval_macro_f1": 0.33, "eval_micro_f1": 0.5}
TAGS = CLASSES | {"eval_entity_f1": 0.0}


@pytest.mark.parametrize(
    ("kind", "best", "constant", "said"),
    [
        ("tags", TAGS | {"eval_loss": 0.62}, 0.61, "one tag for every word, entity F1 0.00, and the loss 0.62"),
        ("tags", TAGS | {"eval_loss": 0.609}, 0.61, "one tag"),
        ("tags", TAGS | {"eval_loss": 0.5}, 0.61, None),
        ("tags", TAGS | {"eval_loss": 0.7, "eval_distinct_answers": 2}, 0.61, None),
        ("single_label", CLASSES | {"eval_loss": 0.7}, 0.6931, "one class for every row, macro F1 0.33"),
        ("single_label", CLASSES | {"eval_loss": 0.05}, 0.056, None),
        ("multi_label", CLASSES | {"eval_loss": 0.7}, 0.6, "the same labels for every row"),
        ("regression", {"step": 1, "eval_loss": 2.0, "eval_correlation": 0.1}, 2.0, "that of answering the mean"),
        ("regression", {"step": 1, "eval_loss": 2.0, "eval_correlation": 0.9}, 2.0, None),
        ("regression", {"step": 1, "eval_loss": 1.5, "eval_correlation": 0.1}, 2.0, None),
        ("single_label", CLASSES | {"eval_loss": 0.1}, 0.0, None),
        ("regression", {"step": 1, "eval_loss": 0.1, "eval_correlation": 0.0}, 0.0, None),
        ("text", {"step": 1, "eval_loss": 3.2}, 3.2, "no lower than 3.2 before the first step"),
        ("text", {"step": 1, "eval_loss": 3.1}, 3.2, None),
        ("text", {"step": 1, "eval_loss": 3.2}, None, None),
    ],
)
def test_nothing_learnt_is_said_by_figures(kind: Any, best: Any, constant: float | None, said: str | None) -> None:
    found = find_nothing_learnt(kind, best, 50, constant)
    assert (found is None) == (said is None) and (said or "") in (found or "")
    assert find_nothing_learnt(kind, best, 9, constant) is None, "nine rows may well have one answer"


@given(st.floats(-1, 1), st.integers(10, 1000))
def test_a_correlation_above_zero_is_above_its_interval(correlation: float, rows: int) -> None:
    if is_above_zero(correlation, rows):
        assert correlation > 1 / math.sqrt(rows), "at least about two standard errors of no correlation"


def test_it_is_refused_unless_that_is_wanted_or_the_rows_are_corrupted_on_purpose() -> None:
    record: Any = {"no_better_than_constant": "validation entity F1 0.00"}
    with pytest.raises(RefusedError, match="demo learnt nothing: validation entity F1") as refusal:
        refuse_nothing_learnt(RunConfig.model_validate(changed("name", "demo")), record)
    assert refusal.value.exit_code == 1 and "train.learning_rate=LOWER" in str(refusal.value)
    for key, value in (("train.accept_constant", True), ("data.corrupt", "shuffle_answers")):
        refuse_nothing_learnt(RunConfig.model_validate(changed(key, value)), record)
    for fine in ({}, {"no_better_than_constant": None}):
        refuse_nothing_learnt(RunConfig.model_validate(changed("name", "demo")), fine)  # type: ignore[arg-type]
