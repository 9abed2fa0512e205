"""Function calls: what is to be answered is what evaluation accepts, and what is rejected is what it does not."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

import pytest

from configs.errors import InputError
from eval.metrics.function_calls import match_call
from train.sources.bfcl import (
    INSTRUCTION,
    choose_arguments,
    is_answerable,
    is_wrong,
    read_bfcl,
    read_bfcl_preferences,
    render_call,
    signature,
)
from train.sources.source import Row, Source

pytestmark = pytest.mark.unit


def rows_of(source: Source) -> list[Row]:
    return [row for batch in source.batches() for row in batch.rows if isinstance(row, dict)]


@pytest.fixture(scope="module")
def bfcl() -> Source:
    return read_bfcl()


def test_every_gold_call_is_right_by_the_evaluations_own_match(bfcl: Source) -> None:
    """What training teaches, evaluation must accept: else no model could ever score."""
    matches = [match_call(row["messages"][-1]["content"], row["reference"]) for row in rows_of(bfcl)]
    wrong = [row["id"] for row, match in zip(rows_of(bfcl), matches, strict=True) if not match.exact_match]
    assert wrong == []
    assert all(match.valid_json for match in matches)


def test_bfcl_says_what_it_is_and_what_it_left_out(bfcl: Source) -> None:
    assert len(rows_of(bfcl)) + bfcl.left_out["no_accepted_answer"] == 658, "400 simple and 258 live simple questions"
    assert len({row["id"] for row in rows_of(bfcl)}) == len(rows_of(bfcl))
    assert bfcl.licence == "Apache-2.0" and "bfcl-eval 2026" in bfcl.name


def test_a_chat_row_ends_with_the_answer_and_starts_with_the_signature(bfcl: Source) -> None:
    for row in rows_of(bfcl):
        roles = [turn["role"] for turn in row["messages"]]
        assert roles[0] == "system" and roles[-1] == "assistant" and "user" in roles
        assert json.loads(row["messages"][-1]["content"])["name"] + "(" in row["messages"][0]["content"]


def test_bfcl_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(InputError, match="bfcl-eval is not installed") as caught:
        read_bfcl()
    assert "make setup" in str(caught.value)


def test_a_signature_is_short_and_says_what_may_be_left_out() -> None:
    properties = {
        "base": {"type": "integer", "description": "long words"},
        "unit": {"type": "string", "enum": ["cm", "m"]},
        "sides": {"type": "array", "items": {"type": "float"}},
    }
    function = {"name": "area", "parameters": {"type": "dict", "properties": properties, "required": ["base"]}}
    assert signature(function) == "area(base: integer, unit?: cm|m, sides?: array[float])"


def test_the_first_accepted_value_is_the_answer_and_what_may_be_omitted_is_omitted() -> None:
    accepted: dict[str, list[Any]] = {
        "a": [1, 2],
        "b": ["", "x"],
        "c": [{"k": [3, 4], "l": [5, ""]}],
        "d": [[{"m": ["n"]}]],
    }
    assert choose_arguments(accepted) == {"a": 1, "c": {"k": 3}, "d": [{"m": "n"}]}


@pytest.mark.parametrize(
    ("gold", "answerable"),
    [
        ({"f": {"a": [1]}}, True),
        ({"f": {"a": []}}, False),
        (None, False),
        ({"f": {}}, True),
        ({"f": {"a": [""]}}, True),
    ],
)
def test_an_argument_that_accepts_nothing_makes_a_row_unanswerable(gold: Any, answerable: bool) -> None:
    assert is_answerable(gold) is answerable


def test_a_questions_own_system_turn_is_kept_before_the_instruction() -> None:
    function = {"name": "f", "parameters": {"properties": {}}}
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."}]
    row = render_call({"id": "x", "question": [turns], "function": [function]}, {"f": {}})
    assert row["messages"][0]["content"] == f"Be brief.\n{INSTRUCTION}\nf()"
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][-1]["content"] == '{"name": "f", "arguments": {}}'


def test_no_rejected_call_would_be_accepted_and_all_are_calls() -> None:
    rows = rows_of(read_bfcl_preferences(17))
    matches = [match_call(row["rejected"], row["reference"]) for row in rows]
    assert len(rows) > 600 and all(match.valid_json == 1 for match in matches)
    assert [row["id"] for row, match in zip(rows, matches, strict=True) if match.exact_match] == []


def test_rejected_calls_are_wrong_in_every_way_and_always_the_same(bfcl: Source) -> None:
    one, again, other = (rows_of(read_bfcl_preferences(seed)) for seed in (17, 17, 18))
    assert one == again != other
    assert [{key: value for key, value in row.items() if key != "rejected"} for row in one] == rows_of(bfcl), (
        "the chosen answers are BFCL's own"
    )
    pairs = [(json.loads(row["messages"][-1]["content"]), json.loads(row["rejected"])) for row in one]
    renamed = [rejected for chosen, rejected in pairs if rejected["name"] != chosen["name"]]
    shortened = [rejected for chosen, rejected in pairs if rejected["arguments"].keys() < chosen["arguments"].keys()]
    assert min(len(renamed), len(shortened), len(one) - len(renamed) - len(shortened)) > 100


@pytest.mark.parametrize(
    ("value", "wrong"), [("new york", False), ("N.Y.", False), ("Boston", True), (5, False), (5.0, False), (6, True)]
)
def test_a_value_that_evaluation_might_accept_is_not_wrong_enough(value: Any, wrong: bool) -> None:
    assert is_wrong(value, ["New York", "NY", 5]) is wrong
