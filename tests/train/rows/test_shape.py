"""One table of fields says what a row of each task is; whatever comes, the answer is a row or what is wrong with it."""

from __future__ import annotations

from typing import Any, get_args

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.files.rows import from_columns, to_columns
from train.rows.shape import (
    Shape,
    answer_of,
    arrow_schema,
    asked_of,
    has_pairs,
    labels_of,
    parse_row,
    question_of,
    shape_of,
    texts_of,
)
from train.sources.source import Fault

pytestmark = pytest.mark.unit
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
]
GOOD: dict[Shape, dict[str, Any]] = {
    "label": {"text": "a fine film", "label": "good"},
    "labels": {"text": "a fine film", "labels": ["art", "fun"]},
    "value": {"text": "a fine film", "value": 0.5},
    "tags": {"tokens": ["Ada", "slept"], "tags": ["B-PER", "O"]},
    "chat": {"messages": TURNS, "reference": "4"},
    "completion": {"prompt": "2+2=", "completion": "4", "reference": "4"},
    "text": {"text": "Once upon a time."},
    "preference": {"messages": TURNS, "rejected": "5", "reference": "4"},
    "unpaired": {"messages": TURNS, "desirable": True, "reference": "4"},
}
KEYS = st.sampled_from(
    [
        "messages",
        "role",
        "content",
        "text",
        "label",
        "labels",
        "value",
        "tokens",
        "tags",
        "prompt",
        "completion",
        "rejected",
        "chosen",
        "x",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("shape", get_args(Shape))
def test_a_good_row_is_kept_as_it_is_and_fits_its_parquet_file(shape: Shape) -> None:
    row = parse_row(GOOD[shape] | {"more": 1}, shape)
    assert row == GOOD[shape], "columns of no use to the task are left where they are"
    written = pyarrow.Table.from_pylist([to_columns({"id": "x"} | row)], schema=arrow_schema(shape, tokens=False))
    assert list(map(from_columns, written.to_pylist())) == [{"id": "x"} | row]


WRONG: list[tuple[Shape, str, Any, str]] = [
    ("label", "text", None, "missing_field"),
    ("label", "text", 3, "missing_field"),
    ("label", "text", " \u200b\n", "empty_field"),
    ("label", "label", "", "empty_field"),
    ("label", "label", 0.5, "missing_field"),
    ("label", "label", ["good"], "missing_field"),
    ("label", "label", "odd", "unknown_label"),
    ("labels", "labels", "art", "missing_field"),
    ("labels", "labels", ["art", None], "missing_field"),
    ("labels", "labels", ["art", "odd"], "unknown_label"),
    ("value", "value", "high", "missing_field"),
    ("value", "value", float("nan"), "missing_field"),
    ("value", "value", True, "missing_field"),
    ("tags", "tokens", [], "missing_field"),
    ("tags", "tokens", ["Ada", " "], "empty_field"),
    ("tags", "tags", ["B-PER"], "invalid_tag"),
    ("tags", "tags", ["B-PER", 3], "invalid_tag"),
    ("tags", "tags", ["B-PER", "-PER"], "invalid_tag"),
    ("tags", "tags", ["B-PER", "B-ODD"], "unknown_label"),
    ("chat", "messages", "hello", "missing_field"),
    ("chat", "messages", [], "missing_field"),
    ("chat", "messages", [{"role": "user"}], "missing_field"),
    ("chat", "messages", TURNS[:2], "missing_field"),
    ("chat", "messages", TURNS[2:], "missing_field"),
    ("chat", "messages", [{"role": "user", "content": 3}, TURNS[2]], "missing_field"),
    ("chat", "messages", [TURNS[1], {"role": "assistant", "content": " "}], "empty_field"),
    ("completion", "completion", "", "empty_field"),
    ("preference", "rejected", None, "missing_field"),
    ("preference", "rejected", "4", "identical_pair"),
    ("unpaired", "desirable", None, "missing_field"),
    ("unpaired", "desirable", "perhaps", "missing_field"),
    ("unpaired", "desirable", 2, "missing_field"),
]


PAIRED: tuple[Shape, ...] = ("label", "labels", "value")


@pytest.mark.parametrize("shape", PAIRED)
def test_a_label_may_be_that_of_two_texts(shape: Shape) -> None:
    good = GOOD[shape] | {"text_pair": "a poor film"}
    assert has_pairs(shape, good) and not has_pairs(shape, GOOD[shape])
    row = parse_row(good, shape, pairs=True)
    assert row == good
    written = pyarrow.Table.from_pylist([{"id": "x"} | good], schema=arrow_schema(shape, tokens=False, pairs=True))
    assert written.to_pylist() == [{"id": "x"} | good]


@pytest.mark.parametrize("shape", PAIRED)
def test_both_texts_are_the_question(shape: Shape) -> None:
    one, other = (GOOD[shape] | {"text_pair": text} for text in ("a poor film", "no film"))
    assert question_of(one) != question_of(other) and asked_of(one) != asked_of(other)
    assert question_of(one) != question_of({"text": one["text"] + one["text_pair"]})
    assert texts_of(one) == ["a fine film", "a poor film"] and "poor" in asked_of(one)[0]


@pytest.mark.parametrize(("pairs", "second"), [(True, None), (True, " "), (True, 3), (False, "one too many")])
def test_every_row_has_two_texts_or_none_has(pairs: bool, second: Any) -> None:
    fault = parse_row(GOOD["label"] | {"text_pair": second}, "label", pairs=pairs)
    assert isinstance(fault, Fault) and "text_pair" in fault.found


@pytest.mark.parametrize(("shape", "field", "value", "kind"), WRONG)
def test_a_wrong_field_is_named_with_its_kind(shape: Shape, field: str, value: Any, kind: str) -> None:
    allowed = {"label": "good", "labels": "art fun", "tags": "O B-PER"}.get(shape, "")
    fault = parse_row(GOOD[shape] | {field: value}, shape, frozenset(allowed.split()))
    assert isinstance(fault, Fault) and fault.kind == kind
    assert fault.found and fault.expected and (field in fault.found or kind in ("unknown_label", "invalid_tag"))


def test_numbers_serve_as_labels_and_text_as_numbers() -> None:
    """Many sets hold class indices, and a CSV cell is always text."""
    assert parse_row({"text": "x", "label": 3}, "label") == {"text": "x", "label": "3"}
    assert parse_row({"text": "x", "value": "-0.5"}, "value") == {"text": "x", "value": -0.5}


def test_any_number_of_labels_may_be_none_and_each_counts_once() -> None:
    assert parse_row({"text": "x", "labels": []}, "labels") == {"text": "x", "labels": []}
    assert parse_row({"text": "x", "labels": ["b", "a", "b"]}, "labels") == {"text": "x", "labels": ["a", "b"]}


def test_a_reference_may_be_given_as_text_or_as_json() -> None:
    assert parse_row({"messages": TURNS}, "chat") == {"messages": TURNS, "reference": "4"}
    assert parse_row({"messages": TURNS, "reference": {"name": "f"}}, "chat") == {
        "messages": TURNS,
        "reference": '{"name": "f"}',
    }


def test_the_columns_of_trl_make_a_pair() -> None:
    found = parse_row({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "preference")
    assert found == {"messages": TURNS[1:], "rejected": "5", "reference": "4"}


@pytest.mark.parametrize(("label", "good"), [(True, True), (0, False), ("1", True), (" False", False), (1.0, True)])
def test_the_columns_of_trl_make_an_answer_that_is_good_or_bad(label: Any, good: bool) -> None:
    found = parse_row({"prompt": "2+2?", "completion": "4", "label": label}, "unpaired")
    assert found == {"messages": TURNS[1:], "desirable": good, "reference": "4"}


@pytest.mark.parametrize(
    ("task", "problem", "columns", "shape"),
    [
        ("sequence-classification", "single_label", {"text"}, "label"),
        ("sequence-classification", "multi_label", {"text"}, "labels"),
        ("sequence-classification", "regression", {"text"}, "value"),
        ("token-classification", "single_label", {"tokens"}, "tags"),
        ("causal-lm", "single_label", {"messages", "text"}, "chat"),
        ("causal-lm", "single_label", {"prompt", "completion"}, "completion"),
        ("causal-lm", "single_label", {"text"}, "text"),
        ("causal-lm", "single_label", {"nothing"}, "chat"),
        ("dpo", "single_label", {"messages"}, "preference"),
        ("dpo", "single_label", {"messages", "rejected", "label"}, "preference"),
        ("dpo", "single_label", {"messages", "desirable"}, "preference"),
        ("reward", "single_label", {"prompt", "chosen", "rejected"}, "preference"),
        ("reward", "single_label", {"messages", "label"}, "preference"),
        ("grpo", "single_label", {"messages"}, "chat"),
        ("grpo", "single_label", {"prompt", "completion"}, "completion"),
        ("grpo", "single_label", {"text"}, "chat"),
    ],
)
def test_the_task_decides_the_shape_and_for_generation_the_columns(
    task: str, problem: str, columns: set[str], shape: str
) -> None:
    assert shape_of(task, problem, columns) == shape


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        ({"messages", "desirable"}, "unpaired"),
        ({"prompt", "completion", "label"}, "unpaired"),
        ({"messages", "rejected", "label"}, "preference"),
    ],
)
def test_single_answers_are_judged_where_the_method_takes_them(columns: set[str], shape: str) -> None:
    assert shape_of("dpo", "single_label", columns, judged=True) == shape


@given(
    st.sampled_from(get_args(Shape)),
    st.dictionaries(KEYS, JSON, max_size=4),
    st.sampled_from([frozenset[str](), frozenset({"a"})]),
)
def test_no_row_whatever_raises(shape: Shape, found: dict[str, Any], allowed: frozenset[str]) -> None:
    row = parse_row(found, shape, allowed)
    assert isinstance(row, dict | Fault)
    if isinstance(row, dict):
        assert all(
            isinstance(text, str)
            for text in (question_of(row), answer_of(row), *asked_of(row), *texts_of(row), *labels_of(row))
        )


def test_the_system_turn_is_part_of_the_question_and_of_what_is_compared_and_can_be_told_from_it() -> None:
    assert "Be brief." in question_of(GOOD["chat"])
    assert asked_of(GOOD["chat"]) == ("Be brief.\n2+2?", "2+2?")
    calls = [{"function": {"name": "f", "arguments": {}}}]
    turns = [{"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "42"}]
    _, beside = asked_of({"messages": [*turns, {"role": "assistant", "content": "a"}]})
    assert beside == '{"name": "f", "arguments": {}}\n42'
    assert asked_of({"messages": [{"role": "assistant", "content": "a"}]}) == ("a", "a"), "an answer to nothing"
    assert asked_of({"text": "a long passage", "text_pair": "who?", "label": "x"})[1] == "who?"
    assert asked_of(GOOD["tags"]) == ("Ada slept", "Ada slept")
