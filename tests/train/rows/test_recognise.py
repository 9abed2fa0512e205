"""Rows that lack our fields are told what they look like, and the key that would read them."""

from __future__ import annotations

from typing import Any

import pytest

from train.rows.recognise import advise
from train.rows.shape import Shape
from train.sources.source import Fault

pytestmark = pytest.mark.unit
FAULT = Fault("missing_field", "messages: nothing", "turns")
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "shape", "advice"),
    [
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            "chat",
            "it looks like ShareGPT: add data.format: sharegpt",
        ),
        ({"messages": [{"from": "human", "value": "a"}]}, "chat", "add data.format: sharegpt"),
        ({"conversations": TURNS}, "chat", "add data.format: sharegpt"),
        ({"conversations": TURNS, "chosen": {}, "rejected": {}}, "preference", "add data.format: sharegpt"),
        ({"instruction": "a", "input": None, "output": "b"}, "chat", "it looks like Alpaca: add data.format: alpaca"),
        ({"instruction": "a", "chosen": "b", "rejected": "c"}, "preference", "add data.format: alpaca"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "completion", "it looks like TRL: add data.format: trl"),
        ({"messages": TURNS, "desirable": True}, "preference", "task dpo with train.preference.method: kto"),
        ({"prompt": "a", "completion": "b", "label": 1}, "preference", "train.preference.method: kto"),
        ({"input": {}, "preferred_output": []}, "preference", "add data.format: openai"),
        ({"question": "a", "answer": "b"}, "chat", "data.columns: {prompt: question, completion: answer}?"),
        ({"prompt": "a", "completion": "b"}, "chat", "beside conversations: data.template: {prompt: "),
        ({"dialogue": TURNS}, "chat", "data.columns: {messages: dialogue}?"),
        ({"review_body": "a", "star_rating": 3}, "label", "data.columns: {text: review_body, label: star_rating}?"),
        ({"Sentence": "a", "Sentiment": "x"}, "label", "data.columns: {text: Sentence, label: Sentiment}?"),
        ({"text": "a", "lable": "x"}, "label", "data.columns: {label: lable}?"),
        ({"text": "a", "score": 1}, "value", "data.columns: {value: score}?"),
        ({"words": ["a"], "ner_tags": ["O"]}, "tags", "data.columns: {tokens: words, tags: ner_tags}?"),
        ({"x": 1, "z": 2}, "label", "columns are x, z: say under data.columns which is text and label"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "label", "columns are conversations"),
    ],
)
def test_the_advice_is_the_key_to_write(row: dict[str, Any], shape: Shape, advice: str) -> None:
    found = advise(FAULT, row, shape)
    assert (found.kind, found.found) == (FAULT.kind, FAULT.found)
    assert found.expected.startswith("turns; ") and advice in found.expected


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (FAULT, {"messages": None, "other": 1}),  # the field is there
        (Fault("empty_field", "messages: ''", "a text"), {"conversations": TURNS}),
    ],
)
def test_a_fault_of_one_row_among_good_ones_is_left_as_it_is(fault: Fault, row: dict[str, Any]) -> None:
    assert advise(fault, row, "chat") == fault
