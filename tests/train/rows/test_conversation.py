"""Conversations as people have them: OpenAI's, axolotl's and what hubs hold; nothing of them is lost without a word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.files.rows import from_columns, to_columns
from train.rows.conversation import check_conversation, check_tools
from train.rows.shape import answer_of, asked_of, parse_row, question_of, texts_of
from train.sources.source import Fault

pytestmark = pytest.mark.unit
USER, GOOD = {"role": "user", "content": "rain?"}, {"role": "assistant", "content": "no"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "dry"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "turns",
    [
        [USER, GOOD],
        [USER, CALLS, RESULT, GOOD],
        [USER, CALLS],
        [GOOD, USER, GOOD],
        [USER, USER, GOOD, GOOD],
        [{"role": "developer", "content": "brief"}, USER, GOOD],
        [USER, GOOD | {"reasoning_content": "the sky is blue"}],
        [USER, CALLS, RESULT | {"content": ""}, GOOD],
    ],
)
def test_what_is_in_our_own_words_stays_as_it_is(turns: list[dict[str, Any]]) -> None:
    assert check_conversation(turns) == turns
    assert check_conversation(json.dumps(turns)) == turns, "a column may hold it as JSON text"


@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        (
            [USER | {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, GOOD],
            {"content": "a\nb"},
        ),
        ([USER | {"content": ["a", "b"]}, GOOD], {"content": "a\nb"}),
        ([USER | {"name": None, "tool_calls": None, "weight": None, "train": None}, GOOD], USER),
        ([USER | {"timestamp": 7, "id": "x"}, GOOD], USER),
    ],
)
def test_parts_become_one_text_and_nulls_go(turns: list[dict[str, Any]], kept: dict[str, Any]) -> None:
    assert check_conversation(turns)[0] == {"role": "user"} | kept


def test_a_call_without_an_id_is_given_one_and_its_answer_names_it() -> None:
    """vLLM takes no call without, and Mistral's templates ask for nine letters or digits."""
    bare = {"role": "assistant", "tool_calls": [{"function": CALL["function"]}, {"function": CALL["function"]}]}
    answers = [{"role": "tool", "content": text} for text in ("dry", "wet")]
    _, called, first, second, *_ = check_conversation([USER, bare, *answers, GOOD])
    ids = [call["id"] for call in called["tool_calls"]]
    assert ids == ["call00001", "call00002"] == [first["tool_call_id"], second["tool_call_id"]]
    assert check_conversation([USER, CALLS, {"role": "tool", "content": "dry"}, GOOD])[2]["tool_call_id"] == "c1"


def test_thoughts_go_by_either_name() -> None:
    for name in ("reasoning", "reasoning_content"):
        assert check_conversation([USER, GOOD | {name: "hm"}])[1]["reasoning_content"] == "hm"


@pytest.mark.parametrize("content", ["", " ", None])
def test_a_system_turn_without_text_is_no_turn(content: str | None) -> None:
    turns = [{"role": "system", "content": content or ""}, USER, GOOD]
    assert check_conversation(turns) == [USER, GOOD]


@pytest.mark.parametrize(
    ("said", "is_target"),
    [
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"train": False}, False),
        ({"training": False}, False),
        ({}, True),
    ],
)
def test_an_answer_of_weight_0_is_no_target(said: dict[str, Any], is_target: bool) -> None:
    turns = check_conversation([USER, GOOD | said, USER, GOOD])
    assert turns[1].get("train", True) is is_target and turns[3].get("train", True)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ({"function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}, {"city": "Bonn"}),
        ({"name": "weather", "arguments": {"city": "Bonn"}}, {"city": "Bonn"}),
        ({"type": "function", "function": {"name": "weather", "arguments": ""}}, {}),
        ({"type": "function", "function": {"name": "weather"}}, {}),
    ],
)
def test_a_call_may_be_written_in_several_ways(call: dict[str, Any], arguments: dict[str, Any]) -> None:
    for turn in (
        {"tool_calls": [call]},
        {"tool_calls": json.dumps([call])},
        {"function_call": call.get("function", call)},
    ):
        (found,) = check_conversation([USER, {"role": "assistant", "content": None} | turn])[-1]["tool_calls"]
        assert found["function"] == {"name": "weather", "arguments": arguments}


FAULTS = [
    ([USER, {"role": "assistant", "content": None}], "no content"),
    ([USER, {"role": "assistant", "content": " "}], "turn 2"),
    ([USER, GOOD | {"weight": 0}], "every assistant turn"),
    ([USER, GOOD | {"weight": 0.5}], "weight"),
    ([USER | {"train": True}, GOOD], "train true"),
    ([USER, GOOD, USER], "roles"),
    ([GOOD], "roles"),
    ([{"role": "human", "content": "a"}, GOOD], "roles"),
    ([USER, {"role": "assistant", "content": "a", "tool_calls": [{"function": {"arguments": {}}}]}], "a call"),
    ([USER, {"role": "assistant", "content": "a", "tool_calls": [{"name": "f", "arguments": "not json"}]}], "a call"),
    ([USER, {"role": "assistant", "content": "a", "tool_calls": [{"name": "f", "arguments": [1]}]}], "a call"),
    ([USER | {"tool_calls": [CALL]}, GOOD], "tool_calls"),
    ([USER | {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, GOOD], "a part"),
    ([USER | {"content": 3}, GOOD], "int 3"),
    ("hello", "hello"),
    ([], ""),
]


@pytest.mark.parametrize(("turns", "found"), FAULTS)
def test_what_cannot_be_trained_on_is_a_fault_that_says_why(turns: Any, found: str) -> None:
    fault = check_conversation(turns)
    assert isinstance(fault, Fault) and found in fault.found and fault.expected


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [TOOL["function"]], TOOL, [TOOL | {"strict": None}]])
def test_tools_may_be_written_in_several_ways(tools: Any) -> None:
    assert check_tools(tools) == [TOOL]


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_no_tools_are_none(tools: Any) -> None:
    row = parse_row({"messages": [USER, GOOD], "tools": tools}, "chat")
    assert isinstance(row, dict) and "tools" not in row


def test_a_row_with_tools_keeps_them_through_its_file() -> None:
    row = parse_row({"messages": [USER, CALLS, RESULT, GOOD], "tools": [TOOL]}, "chat")
    assert isinstance(row, dict) and row["tools"] == [TOOL]
    written = json.loads(json.dumps(to_columns(row)))
    assert all(isinstance(turn.get("tool_calls", ""), str) for turn in written["messages"])
    nulls = {"name": None, "tool_calls": None, "tool_call_id": None, "reasoning_content": None, "train": None}
    assert from_columns(written | {"messages": [nulls | turn for turn in written["messages"]]}) == row
    assert isinstance(parse_row({"messages": [USER, GOOD], "tools": [{"function": {}}]}, "chat"), Fault)


def test_a_call_counts_as_an_answer_as_a_question_and_as_text() -> None:
    row = parse_row({"messages": [USER, CALLS], "tools": [TOOL]}, "chat")
    other = parse_row({"messages": [USER, CALLS]}, "chat")
    assert isinstance(row, dict) and isinstance(other, dict)
    assert answer_of(row) == '{"name": "weather", "arguments": {"city": "Bonn"}}'
    assert row["reference"] == '{"name": "weather", "accepted": {"city": ["Bonn"]}}', "scored by syntax tree"
    assert question_of(row) != question_of(other), "other tools, another question"
    longer = parse_row({"messages": [USER, CALLS, RESULT, GOOD]}, "chat")
    assert (
        isinstance(longer, dict) and "Bonn" in asked_of(longer)[1] and any("Bonn" in text for text in texts_of(longer))
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "tool_calls", "function", "name", "arguments", "weight", "text"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=16,
    )
)
def test_whatever_a_column_holds_is_a_conversation_or_a_fault(value: Any) -> None:
    found = check_conversation(value)
    assert isinstance(found, list | Fault) and check_tools(value) is not None
