"""Every scheme of tags says the same entities, and is read back to them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, IOE1, IOE2, Entities

from configs.rows.tags import LETTERS, Scheme, Span, entities_of, marks_in, place_of, spans_of, to_iob2, written

pytestmark = pytest.mark.unit
SEQEVAL: dict[Scheme, Any] = {"iob1": IOB1, "iob2": IOB2, "ioe1": IOE1, "ioe2": IOE2, "bioes": IOBES, "bilou": BILOU}


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Entities side by side or apart, and the number of words."""
    spans, start = list[Span](), 0
    for length, kind, gap in draw(
        st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["PER", "B-side", "s_x"]), st.integers(0, 2)), max_size=5)
    ):
        spans.append((kind, start, start + length - 1))
        start += length + gap
    return spans, start + 1


@given(sentences(), st.sampled_from(sorted(LETTERS)), st.sampled_from(["before", "after"]))
def test_what_a_scheme_writes_is_read_back(sentence: tuple[list[Span], int], scheme: Scheme, place: Any) -> None:
    spans, words = sentence
    marks = marks_in(spans, words, scheme)
    if scheme == "io":  # it cannot say where one ends and the next of its type begins
        assert {kind for kind, *_ in spans_of(marks)} == {kind for kind, *_ in spans}
    else:
        assert spans_of(marks) == spans
        assert entities_of([written(mark, place) for mark in marks], place) == spans
        assert to_iob2([written(mark, place) for mark in marks], place) == [
            written(mark) for mark in marks_in(spans, words, "iob2")
        ]


@given(sentences(), st.sampled_from(sorted(SEQEVAL)))
def test_seqeval_in_strict_mode_reads_the_same_in_every_scheme_that_it_knows(
    sentence: tuple[list[Span], int], scheme: Scheme
) -> None:
    spans, words = sentence
    tags = [written(mark) for mark in marks_in(spans, words, scheme)]
    found = Entities([tags], SEQEVAL[scheme]).entities[0]
    assert [(one.tag, one.start, one.end - 1) for one in found] == spans


@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]), max_size=9))
def test_a_sequence_that_breaks_the_scheme_is_read_as_conlleval_does(tags: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert entities_of(tags) == get_entities(tags)  # seqeval's default is conlleval's rule


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        (["O", "B-PER", "I-PER"], "before"),
        (["b-per", "i-per", "O"], "before"),
        (["B_PER", "O"], "before"),
        (["PER-B", "PER-I", "LOC-B"], "after"),
        (["B", "I", "O"], "alone"),
        (["B", "M", "E", "S"], "alone"),
        (["ORG", "PER", "O"], "none"),
        (["creative-work", "home-work", "E-mail"], "none"),
        (["O"], "none"),
        ([], "none"),
    ],
)
def test_where_the_letter_stands_is_told_by_most_tags(tags: list[str], place: str) -> None:
    assert place_of(tags) == place


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        ("U-LOC U-LOC", "B-LOC B-LOC"),
        ("B-LOC L-LOC", "B-LOC I-LOC"),
        ("S-LOC B-LOC E-LOC", "B-LOC B-LOC I-LOC"),
        ("I-LOC I-LOC B-LOC", "B-LOC I-LOC B-LOC"),
        ("PER-B PER-I O", "B-PER I-PER O"),
        ("ORG ORG PER O", "B-ORG I-ORG B-PER O"),
        ("B M E S", "B-_ I-_ I-_ B-_"),
        ("b-per i-per", "B-per I-per"),
    ],
)
def test_all_of_them_become_iob2(tags: str, iob2: str) -> None:
    assert to_iob2(tags.split()) == iob2.split() == to_iob2(iob2.split())
