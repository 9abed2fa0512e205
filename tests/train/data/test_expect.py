"""Rules of one's own: a breach is a finding of its row, or of all rows, with the action that the rule names."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.rows.expect import Expectation
from configs.rows.lint import Lint
from eval.measure.slices import features_of as features_of_slices
from train.data.expect import Expectations, features_of
from train.data.findings import Findings, record_findings

pytestmark = pytest.mark.unit
ROW = {"id": "1", "text": "a b c", "label": "x"}


def check(raw: dict[str, Any], **rule: Any) -> list[tuple[str, str, str]]:
    found = Expectations([Expectation.model_validate(rule)]).check(raw, ROW)
    return [(fault.found, fault.expected, action) for fault, action in found]


@pytest.mark.parametrize(
    ("raw", "rule", "found"),
    [
        ({"amount": -2}, {"column": "amount", "minimum": 0}, "amount int -2"),
        ({"amount": "-2.5"}, {"column": "amount", "minimum": 0}, "amount str -2.5"),
        ({"amount": 11}, {"column": "amount", "minimum": 0, "maximum": 10}, "amount int 11"),
        ({"amount": None}, {"column": "amount", "minimum": 0}, "amount nothing"),
        ({"amount": True}, {"column": "amount", "minimum": 0}, "amount bool true"),
        ({"amount": "much"}, {"column": "amount", "minimum": 0}, "much"),
        ({"amount": float("nan")}, {"column": "amount", "maximum": 0}, "NaN"),
        ({}, {"where": "length < 3"}, "length 3"),
        ({"source": "web"}, {"where": "source in ('mail', 'call') or label == 'y'"}, "source web"),
        ({"amount": "3"}, {"where": "amount > 2"}, "not supported between"),
        ({"price": 1}, {"where": "prize > 2"}, "no column prize among price"),
        ({"price": 1}, {"column": "prize", "minimum": 2}, "no column prize among price"),
    ],
)
def test_a_breach_says_what_was_found(raw: dict[str, Any], rule: dict[str, Any], found: str) -> None:
    ((said, expected, action),) = check(raw, **rule, action="drop")
    assert found in said and action == "drop"
    assert expected == ("'price'" if "no column" in said else str(Expectation.model_validate(rule)))


@given(st.floats(-100, 100), st.floats(-100, 0), st.floats(0, 100))
def test_a_number_within_its_limits_is_good_also_as_text(number: float, low: float, high: float) -> None:
    for value in (number, str(number)):
        assert (check({"a": value}, column="a", minimum=low, maximum=high) == []) == (low <= number <= high)


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.05, 0.95))
def test_a_share_is_judged_over_all_rows(good: int, bad: int, share: float) -> None:
    rule = Expectation.model_validate({"where": "ok", "share": share})
    asked = Expectations([rule])
    assert [asked.check({"ok": number < good}, ROW) for number in range(good + bad)] == [[]] * (good + bad)
    findings = Findings(Lint(), StringIO(), Path("lint.jsonl"))
    asked.judge(findings)
    assert findings.refused() == ({"expectation": 1} if good / (good + bad) < share else {})


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"where": "length < 3", "column": "a", "minimum": 0},
        {"column": "a"},
        {"where": "length < 3", "minimum": 0},
        {"column": "a", "minimum": 3, "maximum": 2},
        {"where": "length <"},
        {"where": "len(text) < 3"},
        {"where": "1 < 2"},
        {"where": "length < 3", "share": 0},
        {"where": "length < 3", "share": 0.9, "action": "drop"},
    ],
)
def test_a_rule_that_could_not_be_asked_is_refused_without_rows(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Expectation.model_validate(rule)


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "text": "a b c", "label": "x"},
        {"id": "1", "text": "a b", "labels": ["x", "y"]},
        {"id": "1", "tokens": ["Ada", "slept"], "tags": ["B-PER", "O"]},
        {"id": "1", "prompt": "a b", "completion": "c"},
        {"id": "1", "messages": [{"role": r, "content": f"{r} says"} for r in ("system", "user", "assistant")]},
    ],
)  # fmt: skip
def test_a_name_means_what_it_means_in_a_slice(row: dict[str, Any]) -> None:
    assert features_of(row) == features_of_slices(row)


def test_findings_of_a_share_go_to_the_record(tmp_path: Any) -> None:
    with record_findings(Lint(), tmp_path / "lint.jsonl") as findings:
        asked = Expectations([Expectation.model_validate({"where": "ok", "share": 0.5, "action": "keep"})])
        for number in range(4):
            asked.check({"ok": number == 0}, ROW)
        asked.judge(findings)
    assert findings.lines() == ["all rows: expectation: found ok in 1 of 4 rows (25.00%), expected in 50.00% at least"]
    assert findings.refused() == {} and findings.table()[-1] == {"kind": "expectation", "action": "keep", "count": 1}
