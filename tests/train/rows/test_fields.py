"""Labels and tags as people write them: names, numbers, truth values; and what is none of them, with the reason."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from train.rows.fields import check_label, check_labels, check_tags, names_of_numbers, with_names
from train.sources.source import Fault
from train.sources.values import plain

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("good", "good"),
        (3, "3"),
        (-1, "-1"),
        (2.0, "2"),
        (True, "true"),
        (False, "false"),
        ("NA", "NA"),
        ("2026-01", "2026-01"),
    ],
)
def test_what_serves_as_a_label(value: Any, label: str) -> None:
    assert check_label(value) == label and check_labels([value, value]) == [label]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.5, "regression"),
        (float("nan"), "regression"),
        (plain(Decimal("1.5")), "regression"),
        (plain(date(2026, 1, 2)), "each date"),
        (plain(datetime(2026, 1, 2, 12, 30)), "each date"),
        (["a"], "multi_label"),
        (None, "a text"),
        ("", "shows"),
    ],
)
def test_what_is_no_label_is_refused_with_the_reason(value: Any, reason: str) -> None:
    fault = check_label(value)
    assert isinstance(fault, Fault) and reason in fault.expected and isinstance(check_labels([value]), Fault)


@pytest.mark.parametrize(
    ("labels", "value", "label"),
    [
        (["negative", "positive"], 1, "positive"),
        (["negative", "positive"], "0", "negative"),
        (["negative", "positive"], 1.0, "positive"),
        (["negative", "positive"], True, "positive"),
        (["negative", "positive"], "positive", "positive"),
        (["negative", "positive"], 2, 2),
        (["a", "b", "c"], True, True),
        (["1", "2", "3"], 1, 1),
        (["true", "false"], True, True),
    ],
)
def test_names_stand_for_numbers_by_their_order_and_a_name_wins(labels: list[str], value: Any, label: Any) -> None:
    """A number beyond the names stays what it is, and is then an unknown label."""
    names = names_of_numbers(labels)
    assert with_names({"label": value}, names) == {"label": label}
    assert with_names({"labels": [value]}, names) == {"labels": [label]}


def test_tags_may_be_numbers_where_their_names_are_given() -> None:
    found = with_names({"tokens": ["Ada", "slept"], "tags": [1, 0]}, names_of_numbers(["O", "B-PER"]))
    assert check_tags(found["tags"]) == ["B-PER", "O"]
    fault = check_tags([1, 0])
    assert isinstance(fault, Fault) and "data.labels" in fault.expected


@pytest.mark.parametrize("value", ["B-PER O", None, ["O", " "], ["O", "-PER"], ["O", None], ["O", ["B-PER"]]])
def test_what_are_no_tags(value: Any) -> None:
    fault = check_tags(value)
    assert isinstance(fault, Fault) and fault.kind == "invalid_tag"
