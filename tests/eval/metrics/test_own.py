"""Metrics of one's own: a function of the checkout, held to the range that it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import InputError
from configs.run.own_metric import OwnMetric
from eval.metrics.own import load_own, own_definition

pytestmark = pytest.mark.unit
ROW = {"id": "row-1", "text": "hello"}
MODULE = """
def polite(row, answer):
    return None if not answer else float("please" in answer)
def length(row, answer):
    return len(answer) - len(row["text"])
def broken(row, answer):
    row["text"] = "changed"
    return row["nothing"]
"""


def metric(function: str, **changes: Any) -> OwnMetric:
    settings = {"name": function, "python": f"checks.style:{function}", "range": (0, 1)}
    return OwnMetric.model_validate(settings | changes)


@pytest.fixture(autouse=True)
def module(checkout: Path) -> None:
    (checkout / "checks").mkdir()
    (checkout / "checks/style.py").write_text(MODULE)


def test_a_rows_values_are_the_functions_own() -> None:
    scorer = load_own([metric("polite", binary=True), metric("length", range=(-100, 100))])
    assert scorer(ROW, "please") == {"custom:polite": 1.0, "custom:length": 1.0}
    assert scorer(ROW, "") == {"custom:polite": None, "custom:length": -5.0}
    assert load_own([])(ROW, "please") == {}
    assert own_definition(metric("length", range=(-100, 100), higher_is_better=False)) == {
        "kind": "bounded",
        "low": -100,
        "high": 100,
        "higher_is_better": False,
    }


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (metric("length"), "row row-1 has 6, expected a number from 0 to 1"),
        (metric("broken"), "checks.style:broken fails on row row-1"),
    ],
)
def test_what_breaks_its_word_names_the_row(wanted: OwnMetric, expected: str) -> None:
    row = dict(ROW)
    with pytest.raises(InputError, match=expected):
        load_own([wanted])(row, "hello world")
    assert row == ROW, "a metric cannot change what is measured"


@pytest.mark.parametrize("python", ["checks.style:rude", "checks.nowhere:polite"])
def test_what_is_not_there_cannot_be_loaded(python: str) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        load_own([metric("polite", python=python)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"range": (1, 0)}, "lowest value first"),
        ({"range": (0, 5), "binary": True}, r"range \[0, 1\] with binary"),
        ({"python": "../outside:polite"}, "match pattern"),
        ({"python": "polite"}, "match pattern"),
        ({"name": "Polite!"}, "match pattern"),
    ],
)
def test_a_metric_that_cannot_be_held_to_anything_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        metric("polite", **changes)
