"""The shapes that other tools name, read as ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rows.data import Data
from train.rows.presets import PRESETS
from train.rows.shape import Shape, parse_row
from train.rows.template import make_reading
from train.rows.trl import is_trl
from train.sources.source import Fault

pytestmark = pytest.mark.unit
USER, BOT = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"name": "add", "arguments": {"a": 2, "b": 2}}
TOOL = {"name": "add", "description": "adds", "parameters": {}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]}
ANSWERED = {"role": "tool", "content": "4"}
WRAPPED = {"tools": [{"type": "function", "function": TOOL}]}


def chat(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(turns)} | more


def said(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": what} for who, what in turns]} | more


ASKED = (("human", "2+2?"), ("gpt", "4"))
ALPACA = {"instruction": "Add.", "input": "2+2", "output": "4"}
ADD = {"role": "user", "content": "Add.\n2+2"}
PAIR = chat(USER, BOT, rejected="5")
BAD = {"role": "assistant", "content": "5"}
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("openai", chat(SYSTEM, USER, BOT), chat(SYSTEM, USER, BOT)),
    ("openai", chat(USER, BOT | {"weight": 0}, USER, BOT), chat(USER, BOT | {"weight": 0}, USER, BOT)),
    ("openai", chat(USER, CALLING, **WRAPPED), chat(USER, CALLING, **WRAPPED)),
    ("openai", chat(USER, {"role": "function", "content": "4"}, functions=[TOOL]), chat(USER, ANSWERED, tools=[TOOL])),
    ("openai", {"input": chat(USER), "preferred_output": [BOT], "non_preferred_output": [BAD]}, PAIR),
    ("sharegpt", said(*ASKED), chat(USER, BOT)),
    ("sharegpt", said(("system", "Be brief."), *ASKED), chat(SYSTEM, USER, BOT)),
    ("sharegpt", said(*ASKED, system="Be brief."), chat(SYSTEM, USER, BOT)),
    ("sharegpt", said(*ASKED, system=""), chat(USER, BOT)),
    ("sharegpt", said(*ASKED, system=None, tools=None), chat(USER, BOT)),
    ("sharegpt", {"conversations": [USER, BOT]}, chat(USER, BOT)),
    ("sharegpt", {"messages": said(*ASKED)["conversations"]}, chat(USER, BOT)),
    (
        "sharegpt",
        said(
            ASKED[0], ("function_call", json.dumps(CALL)), ("observation", "4"), ("gpt", "4"), tools=json.dumps([TOOL])
        ),
        chat(USER, CALLING, ANSWERED, BOT, tools=json.dumps([TOOL])),
    ),
    (
        "sharegpt",
        said(ASKED[0], chosen={"from": "gpt", "value": "4"}, rejected={"from": "gpt", "value": "5"}),
        PAIR,
    ),
    ("sharegpt", said(*ASKED, kto_tag=True), chat(USER, BOT, label=True)),
    ("alpaca", ALPACA, chat(ADD, BOT)),
    ("alpaca", ALPACA | {"input": None, "system": None, "history": None}, chat(USER | {"content": "Add."}, BOT)),
    ("alpaca", ALPACA | {"input": " "}, chat(USER | {"content": "Add."}, BOT)),
    ("alpaca", {"instruction": "2+2?", "output": "4"}, chat(USER, BOT)),
    ("alpaca", ALPACA | {"system": "Be brief.", "history": [["2+2?", "4"]]}, chat(SYSTEM, USER, BOT, ADD, BOT)),
    ("alpaca", {"instruction": "2+2?", "chosen": "4", "rejected": "5"}, PAIR),
    ("alpaca", {"instruction": "2+2?", "output": "4", "kto_tag": False}, chat(USER, BOT, label=False)),
    ("trl", {"text": "2+2=4"}, {"text": "2+2=4"}),
    ("trl", chat(USER, BOT), chat(USER, BOT)),
    ("trl", {"prompt": "2+2?", "completion": "4"}, {"prompt": "2+2?", "completion": "4"}),
    ("trl", {"prompt": [USER], "completion": [BOT]}, chat(USER, BOT)),
    ("trl", {"prompt": [SYSTEM, USER], "chosen": [BOT], "rejected": [BAD]}, chat(SYSTEM, USER, BOT, rejected="5")),
    ("trl", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, PAIR),
    ("trl", {"prompt": "2+2?", "chosen": [BOT], "rejected": [BAD]}, PAIR),
    ("trl", {"chosen": [USER, BOT], "rejected": [USER, BAD]}, PAIR),
    ("trl", {"prompt": "2+2?", "chosen": [USER, BOT], "rejected": [USER, BAD]}, PAIR),  # as UltraFeedback's
    (
        "trl",
        {"chosen": [USER, BOT, USER, BOT], "rejected": [USER, BOT, USER, BAD]},
        chat(USER, BOT, USER, BOT, rejected="5"),
    ),
    ("trl", {"chosen": "2+2? 4", "rejected": "2+2? 5"}, chat(USER | {"content": "2+2? "}, BOT, rejected="5")),
    ("trl", {"prompt": [USER], "completion": [BOT], "label": True}, chat(USER, BOT, label=True)),
    ("trl", {"prompt": "2+2?", "completion": "4", "label": False}, chat(USER, BOT, label=False)),
]


@pytest.mark.parametrize(("name", "row", "expected"), ROWS)
def test_a_row_in_a_known_shape_is_read_as_ours(name: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert PRESETS[name](row) == expected


TWO = [BOT, USER, BOT]


@pytest.mark.parametrize(
    ("name", "row", "why"),
    [
        ("openai", {"text": "x"}, "messages: nothing"),
        ("sharegpt", {"text": "x"}, "conversations: nothing"),
        ("sharegpt", {"conversations": "x"}, "conversations: str"),
        ("sharegpt", said(("narrator", "x"), ("gpt", "y")), "narrator"),
        ("alpaca", {"output": "x"}, "instruction: nothing"),
        ("alpaca", {"instruction": "x"}, "output: nothing"),
        ("alpaca", ALPACA | {"input": 3}, "input: int 3"),
        ("alpaca", ALPACA | {"history": ["x"]}, "history: list"),
        ("trl", {"question": "x"}, "columns question"),
        (
            "trl",
            {"prompt": [USER], "chosen": TWO, "rejected": [BAD]},
            "chosen: turns after the prompt: assistant, user",
        ),
        ("trl", {"prompt": [USER], "chosen": [BOT], "rejected": [BAD, *TWO]}, "rejected: turns after the prompt"),
        ("trl", {"prompt": [USER], "chosen": [BOT], "rejected": [CALLING]}, "rejected: tool_calls"),
        ("trl", {"prompt": [USER], "chosen": [BOT]}, "rejected: nothing"),
        ("trl", {"chosen": [USER, BOT], "rejected": [USER]}, "turns after the prompt"),
        ("trl", {"prompt": 3, "chosen": "4", "rejected": "5"}, "prompt: int 3"),
    ],
)
def test_what_does_not_fit_is_named(name: str, row: dict[str, Any], why: str) -> None:
    fault = PRESETS[name](row)
    assert isinstance(fault, Fault) and fault.kind == "missing_field" and why in fault.found and fault.expected


KEYS = st.sampled_from(
    ["messages", "conversations", "from", "value", "role", "content", "prompt", "completion", "chosen", "rejected",
     "instruction", "input", "output", "system", "history", "tools", "functions", "preferred_output", "label",
     "kto_tag"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "user", "gpt", "function_call", '{"name": 1}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(list(PRESETS)), st.dictionaries(KEYS, JSON, max_size=5))
def test_no_row_whatever_raises(name: str, row: dict[str, Any]) -> None:
    assert isinstance(PRESETS[name](row), dict | Fault)
    assert isinstance(is_trl(row), bool)


def reading(row: dict[str, Any], **data: Any) -> Any:
    return make_reading(Data.model_validate({"source": "files", "files": ["x.jsonl"]} | data))(row)


@pytest.mark.parametrize(
    ("row", "format"),
    [(row, name) for name, row, _ in ROWS if name != "openai" or "messages" in row],
)
def test_what_a_preset_makes_is_a_row_of_ours(row: dict[str, Any], format: str) -> None:
    found = PRESETS[format](row)
    assert isinstance(found, dict)
    if found.get("messages", [{}])[-1].get("role") == "assistant":
        shape: Shape = "preference" if "rejected" in found else "chat"
        kept = parse_row(found, shape)
        assert isinstance(kept, dict) and ("tools" in kept) == ("tools" in found)


def test_a_preset_is_read_after_columns_are_renamed_and_ids_stay() -> None:
    row = {"id": "r1", "dialog": said(*ASKED)["conversations"], "more": 1}
    assert reading(row, format="sharegpt", columns={"conversations": "dialog"}) == {"id": "r1"} | chat(USER, BOT)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": [USER], "chosen": [BOT], "rejected": [BAD]}, PAIR),
        ({"chosen": [USER, BOT], "rejected": [USER, BAD]}, PAIR),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, PAIR),
    ],
)
def test_the_columns_of_trl_need_no_preset(row: dict[str, Any], expected: dict[str, Any]) -> None:
    found = reading(row)
    assert {key: found[key] for key in expected} == expected
