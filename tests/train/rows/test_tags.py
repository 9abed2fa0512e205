"""The scheme of a set's tags is told by most of its first rows, and every row is held to it."""

from __future__ import annotations

import pytest

from configs.rows.tags import LETTERS, Scheme, Span, TagScheme, marks_in, written
from train.rows.tags import TagReader, recognise
from train.sources.source import Fault

pytestmark = pytest.mark.unit
# Every kind of entity: alone, two words, three, and neighbours of one type.
SPANS: list[list[Span]] = [
    [("PER", 0, 0)],
    [("PER", 1, 2), ("LOC", 3, 3)],
    [("ORG", 0, 2)],
    [("LOC", 0, 0), ("LOC", 1, 1)],
    [("LOC", 0, 1), ("LOC", 2, 3)],
    [],
]


def rows_in(scheme: Scheme, place: str = "before") -> list[list[str]]:
    return [[written(mark, place) for mark in marks_in(spans, 5, scheme)] for spans in SPANS]  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("scheme", sorted(LETTERS.keys() - {"io"}))
def test_a_scheme_is_recognised_and_its_rows_become_iob2(scheme: Scheme, place: str) -> None:
    reader = recognise(rows_in(scheme, place))
    assert (reader.scheme, reader.place) == (scheme, place)
    assert [reader.read(tags) for tags in rows_in(scheme, place)] == rows_in("iob2")


def test_i_alone_is_read_so_that_nothing_is_lost() -> None:
    """IO, or IOB1 whose first rows have no neighbours: a later B is then still understood."""
    reader = recognise([["I-PER", "I-PER", "O"], ["O", "I-LOC"]])
    assert reader.scheme == "iob1" and reader.read(["I-LOC", "B-LOC"]) == ["B-LOC", "B-LOC"]


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [("ORG ORG O PER", "B-ORG I-ORG O B-PER"), ("creative-work O O O", "B-creative-work O O O")],
)
def test_bare_names_are_io(tags: str, iob2: str) -> None:
    reader = recognise([tags.split(), ["O"] * 4])
    assert reader == TagReader("bare", "none") and reader.read(tags.split()) == iob2.split()


def test_names_without_any_o_are_of_words_by_themselves() -> None:
    reader = recognise([["DET", "NOUN", "NOUN", "VERB"]])
    assert reader.scheme == "words" and reader.read(["NOUN", "NOUN"]) == ["NOUN", "NOUN"]


def test_letters_alone_are_entities_without_a_type() -> None:
    reader = recognise([["B", "I", "O", "B"]])
    assert reader.place == "alone" and reader.read(["O", "B", "I"]) == ["O", "B-_", "I-_"]


@pytest.mark.parametrize("said", ["auto", "iob2"])
@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O I-PER", "I-PER at word 2, where iob2 has B-PER"),
        ("B-PER I-LOC", "I-LOC at word 2, where iob2 has B-LOC"),
        ("U-LOC O", "U-LOC at word 1, where iob2 has B-LOC"),
        ("O ORG", "ORG, which has no position where the others have one"),
    ],
)
def test_a_row_in_another_scheme_is_a_fault_that_says_which_the_first_rows_had(
    said: TagScheme, tags: str, found: str
) -> None:
    reader = recognise([tags.split(), *rows_in("iob2") * 3], said)
    fault = reader.read(tags.split())
    assert isinstance(fault, Fault) and (fault.kind, fault.found) == ("invalid_tag", found)
    assert "iob2" in fault.expected and ("data.tags says" in fault.expected) == (said != "auto")


def test_a_position_among_bare_names_is_a_fault_unless_they_are_said_to_be_names() -> None:
    rows = [["ORG", "O"], ["PER", "O"], ["LOC", "O"], ["B-PER", "O"]]
    assert isinstance(recognise(rows).read(rows[-1]), Fault)
    assert recognise(rows, "bare").read(rows[-1]) == ["B-B-PER", "O"]


@pytest.mark.parametrize("said", ["io", "iob1", "bilou", "bmes", "ioe2"])
def test_a_scheme_may_be_said(said: Scheme) -> None:
    assert recognise(rows_in(said, "after"), said) == TagReader(said, "after", said=True)


@pytest.mark.parametrize("rows", [[], [["O", "O"]]])
def test_rows_without_an_entity_tell_nothing_and_any_scheme_may_be_iob2(rows: list[list[str]]) -> None:
    assert recognise(rows).read(["B-PER", "I-PER", "O"]) == ["B-PER", "I-PER", "O"]
