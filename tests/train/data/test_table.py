"""What tells rows apart, by hashes alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.table import group_of, hashes_of

pytestmark = pytest.mark.unit
ANSWERS = st.sampled_from(["good", "bad", "worse"])
Row = dict[str, Any]


def pair(prompt: str, chosen: str, rejected: Any) -> Row:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": chosen}]
    return {"id": "1", "messages": turns, "rejected": rejected}


def same(one: Row, other: Row) -> str:
    mine, theirs = hashes_of(one), hashes_of(other)
    if mine["question"] != theirs["question"]:
        return "different"
    return "duplicate" if mine["answer"] == theirs["answer"] else "conflict"


@given(ANSWERS, ANSWERS, ANSWERS, ANSWERS)
def test_pairs_of_one_prompt_differ_by_both_answers_and_turned_round_contradict(a: str, b: str, c: str, d: str) -> None:
    expected = "duplicate" if (a, b) == (c, d) else "conflict" if (a, b) == (d, c) else "different"
    assert same(pair("q", a, b), pair("q", c, d)) == expected
    assert same(pair("q", a, b), pair("other", c, d)) == "different"
    assert group_of(pair("q", a, b)) == group_of(pair("q", c, d)) != group_of(pair("other", a, b))


def test_a_rejected_conversation_counts_as_its_text_does() -> None:
    turns = [[{"role": "assistant", "content": text}] for text in ("bad", "worse")]
    assert same(pair("q", "good", turns[0]), pair("q", "good", turns[0])) == "duplicate"
    assert same(pair("q", "good", turns[0]), pair("q", "good", turns[1])) == "different"


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_labelled_text_is_told_by_text_and_label(text: str, label: str) -> None:
    row = {"id": "1", "text": text, "label": label}
    assert same(row, row | {"id": "2"}) == "duplicate" and same(row, row | {"label": label + "!"}) == "conflict"
    assert group_of(row) == 0


@given(ANSWERS, st.booleans(), ANSWERS, st.booleans())
def test_answers_that_are_desirable_or_not_are_rows_of_their_own(a: str, good: bool, b: str, fine: bool) -> None:
    def row(answer: str, desirable: bool) -> Row:
        return {"id": "1", "messages": pair("q", answer, "")["messages"], "desirable": desirable}

    expected = "different" if a != b else "duplicate" if good == fine else "conflict"
    assert same(row(a, good), row(b, fine)) == expected and group_of(row(a, good)) == group_of(row(b, fine)) != 0
