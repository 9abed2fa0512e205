"""Near-duplicates: found by sketches, decided by the exact likeness."""

from __future__ import annotations

import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.near_duplicates import Index, find_near, jaccard, sample_rows, shingles

pytestmark = pytest.mark.unit
WORDS = [f"word{number}" for number in range(200)]


def sentence(seed: int, length: int = 20) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


@given(st.text(max_size=60))
def test_case_spaces_and_punctuation_do_not_tell_texts_apart(text: str) -> None:
    assert jaccard(shingles(text), shingles(text)) == 1
    if any(character.isalnum() for character in text):
        assert shingles(f"  {text}!! ") == shingles(text)


def test_texts_without_a_word_are_compared_whole() -> None:
    assert shingles("?!") != shingles("...") and shingles("?!") == shingles("?!")


def test_the_order_of_words_counts_and_one_changed_word_of_twenty_does_not_hide_a_copy() -> None:
    words = sentence(1).split()
    assert jaccard(shingles(" ".join(words)), shingles(" ".join(reversed(words)))) < 0.8
    words[10] = "other"
    assert jaccard(shingles(sentence(1)), shingles(" ".join(words))) >= 0.8


@given(st.integers(0, 10_000), st.integers(0, 19))
def test_what_the_index_says_is_the_exact_likeness(seed: int, changed: int) -> None:
    """A copy with one word changed, among 50 others."""
    index = Index(0.8)
    for row in range(50):
        index.add(row, shingles(sentence(row)))
    words = sentence(seed % 50).split()
    words[changed] = "other"
    wanted = jaccard(shingles(" ".join(words)), shingles(sentence(seed % 50)))
    near = dict(index.near(shingles(" ".join(words))))
    assert all(likeness >= 0.8 for likeness in near.values())
    assert near.get(seed % 50, wanted) == wanted


def test_few_near_pairs_are_missed() -> None:
    """Sketches are chance; of copies with one word of twenty changed, at least 95% must be found."""
    index = Index(0.8)
    for row in range(300):
        index.add(row, shingles(sentence(row)))
    copies = [" ".join([*sentence(row).split()[:-1], "other"]) for row in range(300)]
    assert sum(any(other == row for other, _ in index.near(shingles(copy))) for row, copy in enumerate(copies)) >= 285


def test_the_held_out_row_stays_and_leakage_is_named_before_a_near_duplicate() -> None:
    split = numpy.array([2, 1, 0, 0, 0, 0])
    texts = [
        "the very same text",
        "another text held out",
        "Another text, held out!",
        "only in train",
        "only in train.",
        "new",
    ]
    found = [(pair.kind, pair.row, pair.other) for pair in find_near(enumerate(texts), split, {2, 3, 4, 5}, 0.8)]
    assert found == [("leakage", 2, 1), ("near_duplicate", 4, 3)]


def test_a_validation_row_that_is_in_test_leaks_too() -> None:
    found = list(find_near([(0, "a b c"), (1, "a b c"), (2, "a b c")], numpy.array([2, 1, 0]), set(), 0.8))
    assert [(pair.kind, pair.row, pair.other, pair.likeness) for pair in found] == [
        ("leakage", 1, 0, 1.0),
        ("leakage", 2, 0, 1.0),
    ]


def test_train_rows_out_of_the_sample_are_compared_but_not_remembered() -> None:
    texts = [(row, "all alike") for row in range(4)]
    split = numpy.zeros(4, dtype="int8")
    assert [pair.row for pair in find_near(texts, split, {1}, 0.8)] == [2, 3]
    assert list(find_near(texts, split, set(), 0.8)) == []


def test_the_sample_is_of_the_first_train_rows_drawn() -> None:
    assert sample_rows(numpy.array([3, 1, 0, 2]), numpy.array([0, 2, 0, 0]), 2) == {3, 0}
