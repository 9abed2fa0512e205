"""Which slices a row is in: edges that leave no row out, expressions that reach nothing, and names that are wrong found
before a server starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.run.evaluate import Evaluate
from configs.run.slices import Slice
from eval.measure.rows import question_of
from eval.measure.slices import make_slicer, name_of_length, terciles

pytestmark = pytest.mark.unit


def rows(*texts: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": str(number), "text": text} | fields for number, text in enumerate(texts)]


def cut(cuts: list[Slice], found: list[dict[str, Any]]) -> list[list[str]]:
    slicer = make_slicer(cuts, found)
    return [slicer(row) for row in found]


def test_each_way_to_cut_gives_its_names() -> None:
    kept = json.dumps({"topic": "travel", "year": 2026})
    (row,) = rows("one two three", label="good", kept=kept)
    cuts = [
        Slice(by="label"),
        Slice(by="length", edges=[2, 60]),
        Slice(column="topic"),
        Slice(name="short", where="length < 20 and topic == 'travel'"),
        Slice(name="old", where="year < 2000 or 'four' in question"),
    ]
    assert cut(cuts, [row]) == [["label=good", "2<length<=60", "topic=travel", "short"]]


def test_without_slices_of_ones_own_rows_are_cut_by_label_and_by_thirds_of_length() -> None:
    found = [
        row | {"label": "bad" if number % 2 else "good"}
        for number, row in enumerate(rows("a", "a b", "a b c", "a b c d", "a b c d e", "a b c d e f"))
    ]
    names = cut(Evaluate().slice_definitions, found)
    assert [one[1] for one in names] == ["length<=2"] * 2 + ["2<length<=4"] * 2 + ["length>4"] * 2 and names[1][
        0
    ] == "label=bad"
    assert cut(Evaluate().slice_definitions, rows("a b", "a b")) == [[], []], (
        "all of one length and no label: nothing to cut by"
    )
    assert Evaluate(slices=[]).slice_definitions == []


def test_many_labels_and_entities_are_a_slice_each() -> None:
    assert cut([Slice(by="label")], [{"id": "1", "text": "t", "labels": ["a", "b"]}]) == [["label=a", "label=b"]]
    tags = {"id": "1", "tokens": ["a", "b", "c", "d"], "tags": ["B-PER", "I-PER", "O", "B-ORG"]}
    assert cut([Slice(by="label"), Slice(name="person", where="'PER' in label")], [tags]) == [
        ["label=ORG", "label=PER", "person"]
    ]


def test_the_question_is_what_was_asked_without_the_systems_words_and_the_answer() -> None:
    turns = [("system", "tools"), ("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "gold")]
    assert question_of({"messages": [{"role": role, "content": text} for role, text in turns]}) == "one\ntwo\nthree"
    assert [
        question_of(row) for row in ({"prompt": "p", "completion": "c"}, {"tokens": ["a", "b"]}, {"text": "t"})
    ] == ["p", "a b", "t"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_terciles_part_all_lengths_and_leave_no_part_empty(lengths: list[int]) -> None:
    edges = terciles(lengths)
    assert edges == sorted(set(edges)) and len(edges) <= 2 and len(edges) < len(set(lengths))
    counts: dict[str, int] = {}
    for length in lengths:
        counts[name_of_length(length, edges)] = counts.get(name_of_length(length, edges), 0) + 1
    assert not edges or len(counts) == len(edges) + 1
    if len(set(lengths)) == len(lengths) and len(lengths) % 3 == 0:
        assert set(counts.values()) == {len(lengths) // 3}


@given(st.integers(0, 100), st.lists(st.integers(1, 90), min_size=1, max_size=4, unique=True).map(sorted))
def test_a_length_is_in_exactly_the_slice_whose_name_it_fulfils(length: int, edges: list[int]) -> None:
    names = {name_of_length(other, edges) for other in range(102)}
    assert [name for name in names if eval(name, {"length": length})] == [name_of_length(length, edges)]


def test_a_name_that_no_row_has_is_found_before_anything_is_asked() -> None:
    kept = json.dumps({"topic": "x"})
    with pytest.raises(InputError, match=r"row 1 has no 'topic', expected length, question"):
        make_slicer([Slice(column="topic")], [*rows("a", kept=kept), {"id": "1", "text": "b"}])
    with pytest.raises(InputError, match=r"'lenght < 3'|no 'lenght', expected 'length'"):
        make_slicer([Slice(name="short", where="lenght < 3")], rows("a"))
    with pytest.raises(InputError, match="'topic < 3' fails on row 0"):
        make_slicer([Slice(name="odd", where="topic < 3")], rows("a", kept=kept))


@pytest.mark.parametrize("text", ["question * 10 ** 9", "length ** 9 ** 9 ** 9", "9 << 99999999"])
def test_an_expression_that_would_eat_the_machine_fails(text: str) -> None:
    with pytest.raises(InputError, match="fails on row 0"):
        make_slicer([Slice(name="bomb", where=text)], rows("a b c"))
