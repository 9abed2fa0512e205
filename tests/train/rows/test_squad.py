"""Questions about a text, with answers that stand in it or none, become prompts and completions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.rows.shape import parse_row
from train.rows.squad import UNANSWERABLE, read_squad
from train.sources.source import Fault

pytestmark = pytest.mark.unit
CONTEXT = "Ada Lovelace wrote the first program, for Babbage."
ROW = {"id": "q1", "title": "Ada", "context": CONTEXT, "question": " Who wrote it? "}


def answers(*texts: str) -> dict[str, Any]:
    return {"text": list(texts), "answer_start": [CONTEXT.index(text) for text in texts]}


def test_an_answer_of_the_context_is_the_completion() -> None:
    found = read_squad(ROW | {"answers": answers("Ada Lovelace")})
    assert found == {
        "id": "q1",
        "prompt": f"{CONTEXT}\n\nQuestion: Who wrote it?\nAnswer:",
        "completion": " Ada Lovelace",
        "reference": "Ada Lovelace",
    }
    assert isinstance(parse_row(found, "completion"), dict)


@pytest.mark.parametrize(
    "said",
    [
        answers("Ada Lovelace", "Ada", "Ada"),
        [{"text": text, "answer_start": 0} for text in ("Ada Lovelace", "Ada")],
        {"text": ["Ada Lovelace", "Ada"]},
    ],
)
def test_any_of_several_answers_is_right_and_the_first_is_learnt(said: Any) -> None:
    found = read_squad(ROW | {"answers": said})
    assert not isinstance(found, Fault)
    assert (found["completion"], found["reference"]) == (" Ada Lovelace", '{"any_of": ["Ada Lovelace", "Ada"]}')


@pytest.mark.parametrize("said", [{"answers": answers()}, {"answers": []}, {"is_impossible": True, "answers": []}])
def test_a_question_without_an_answer_is_answered_so(said: dict[str, Any]) -> None:
    found = read_squad(ROW | said)
    assert not isinstance(found, Fault) and found["reference"] == UNANSWERABLE


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"answers": {"text": ["Ada"], "answer_start": [4]}}, "answer 'Ada' at character 4"),
        ({"answers": {"text": ["Ada"], "answer_start": [-1]}}, "at character -1"),
        ({"answers": {"text": ["Grace"]}}, "answer 'Grace'"),
        ({"answers": {"text": ["Ada"], "answer_start": []}}, "answers.answer_start"),
        ({"answers": {"text": "Ada", "answer_start": 0}}, "answers.text"),
        ({"answers": None}, "answers: nothing"),
        ({"answers": ["Ada"]}, "answers: list"),
        ({"context": " ", "answers": answers()}, "context"),
        ({"question": None, "answers": answers()}, "question: nothing"),
        ({"paragraphs": []}, "SQuAD's own file"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(change: dict[str, Any], found: str) -> None:
    fault = read_squad(ROW | change)
    assert isinstance(fault, Fault) and found in fault.found and fault.expected


KEYS = st.sampled_from(["context", "question", "answers", "text", "answer_start", "is_impossible", "id"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_no_row_whatever_raises(row: dict[str, Any]) -> None:
    found = read_squad(row)
    assert isinstance(found, Fault) or {"prompt", "completion", "reference"} <= found.keys()
