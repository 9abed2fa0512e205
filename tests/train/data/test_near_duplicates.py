"""Near-duplicates: found by sketches, decided by the exact likeness."""

from __future__ import annotations

import random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.near_duplicates import (
    NOTHING_SHARED,
    SHARED_ROWS,
    Asked,
    Index,
    Text,
    find_near,
    jaccard,
    likeness_of,
    own_runs,
    read_text,
    sample_rows,
    shared_runs,
    words_in,
)
from train.data.near_duplicates import shingles as shingles_of_runs

pytestmark = pytest.mark.unit
WORDS = [f"word{number}" for number in range(200)]
INSTRUCTION = " ".join(f"rule{number}" for number in range(200))


def sentence(seed: int, length: int = 20) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def shingles(text: str) -> frozenset[int]:
    return shingles_of_runs(words_in(text))


def asked(text: str, system: str = "") -> Asked:
    return Asked(f"{system}\n{text}" if system else text, text)


def text_of(text: str, shared: frozenset[int] = NOTHING_SHARED, system: str = "") -> Text:
    return read_text(asked(text, system), shared)


def likeness(one: Asked, other: Asked, *rest: Asked) -> float:
    """Of two rows among the rest."""
    shared = shared_runs(row.whole for row in (one, other, *rest))
    return likeness_of(read_text(one, shared), read_text(other, shared))


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
        index.add(row, text_of(sentence(row)))
    words = sentence(seed % 50).split()
    words[changed] = "other"
    wanted = jaccard(shingles(" ".join(words)), shingles(sentence(seed % 50)))
    near = dict(index.near(text_of(" ".join(words))))
    assert all(likeness >= 0.8 for likeness in near.values())
    assert near.get(seed % 50, wanted) == wanted


def test_few_near_pairs_are_missed() -> None:
    """Sketches are chance; of copies with one word of twenty changed, at least 95% must be found."""
    index = Index(0.8)
    for row in range(300):
        index.add(row, text_of(sentence(row)))
    copies = [" ".join([*sentence(row).split()[:-1], "other"]) for row in range(300)]
    assert sum(any(other == row for other, _ in index.near(text_of(copy))) for row, copy in enumerate(copies)) >= 285


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
    found = [
        (pair.kind, pair.row, pair.other) for pair in find_near(enumerate(map(asked, texts)), split, {2, 3, 4, 5}, 0.8)
    ]
    assert found == [("leakage", 2, 1), ("near_duplicate", 4, 3)]


def test_a_validation_row_that_is_in_test_leaks_too() -> None:
    found = list(find_near(enumerate([asked("a b c")] * 3), numpy.array([2, 1, 0]), set(), 0.8))
    assert [(pair.kind, pair.row, pair.other, pair.likeness) for pair in found] == [
        ("leakage", 1, 0, 1.0),
        ("leakage", 2, 0, 1.0),
    ]


def test_train_rows_out_of_the_sample_are_compared_but_not_remembered() -> None:
    texts = list(enumerate([asked("all alike")] * 4))
    split = numpy.zeros(4, dtype="int8")
    assert [pair.row for pair in find_near(texts, split, {1}, 0.8)] == [2, 3]
    assert list(find_near(texts, split, set(), 0.8)) == []


def test_the_sample_is_of_the_first_train_rows_drawn() -> None:
    assert sample_rows(numpy.array([3, 1, 0, 2]), numpy.array([0, 2, 0, 0]), 2) == {3, 0}


def change(text: str, place: int) -> str:
    words = text.split()
    return " ".join([*words[:place], "other", *words[place + 1 :]])


@pytest.mark.parametrize("place", ["before", "after", "around", "system"])
@pytest.mark.parametrize("templates", [1, 4])
@settings(max_examples=25)
@given(seed=st.integers(1_000, 10_000), changed=st.integers(0, 19))
def test_of_rows_that_share_two_hundred_words_their_own_twenty_decide(
    place: str, templates: int, seed: int, changed: int
) -> None:
    """As if there were no instruction: exactly the likeness of the own words, changed or not."""

    def row(own: str, template: int = 0) -> Asked:
        said = " ".join(f"{word}of{template}" for word in INSTRUCTION.split())
        half = len(said) // 2
        if place == "system":
            return asked(own, said)
        return asked(
            {"before": f"{said} {own}", "after": f"{own} {said}"}.get(place, f"{said[:half]} {own} {said[half:]}")
        )

    others = [row(sentence(number), number % templates) for number in range(SHARED_ROWS * templates)]
    own, copy = sentence(seed), change(sentence(seed), changed)
    assert likeness(row(own), row(copy), *others) == jaccard(shingles(own), shingles(copy)) >= 0.8
    assert likeness(row(own), row(sentence(seed + 1)), *others) < 0.8


@given(st.lists(st.text("ab ", max_size=30), min_size=2, max_size=SHARED_ROWS - 1))
def test_where_few_rows_share_a_text_all_of_it_counts(texts: list[str]) -> None:
    rows = list(map(asked, texts))
    assert likeness(*rows) == jaccard(shingles(texts[0]), shingles(texts[1]))


def test_one_question_about_sixty_reports_is_sixty_questions_and_another_question_about_a_report_too() -> None:
    """Retrieved text lies in the system's turn, or in a tool's."""
    question, reports = "What does this report say about the pump?", [sentence(number, 60) for number in range(60)]
    rows = [asked(question, report) for report in reports]
    assert likeness(rows[0], rows[1], *rows[2:]) < 0.5
    assert likeness(asked("Who wrote it and when?", reports[0]), *rows) < 0.5
    assert likeness(asked(question, change(reports[0], 30)), *rows) > 0.8


def test_the_same_question_to_one_of_many_personas_is_near() -> None:
    personas = [" ".join(f"trait{(persona, number)}" for number in range(30)) for persona in range(3)]
    others = [asked(sentence(number), personas[number % 3]) for number in range(60)]
    assert likeness(asked(sentence(77), personas[0]), asked(sentence(77), personas[1]), *others) < 0.8
    assert likeness(asked(sentence(77), personas[0]), asked(sentence(77), personas[0]), *others) == 1


def test_words_that_many_rows_share_still_tell_texts_apart() -> None:
    """What is shared may be what differs: nothing is near that was not near as a whole."""
    rows = [asked(f"this film is really {word} number {place}") for place in range(20) for word in ("good", "bad")]
    assert likeness(rows[0], rows[1], *rows[2:]) < 0.8


@pytest.mark.parametrize("copies", [2, 50])
def test_copies_of_a_text_are_found_however_many_there_are(copies: int) -> None:
    rows = [asked(sentence(1) + "!" * number) for number in range(copies)]
    assert likeness(*rows) == 1


def test_where_words_have_no_spaces_between_them_characters_are_compared() -> None:
    assert words_in("翻訳して cat") == [*(character.encode() for character in "翻訳して"), b"cat"]
    text = "次の文章を英語に翻訳してください今日は天気"
    assert jaccard(shingles(text), shingles(text.replace("英", "独"))) > 0.7


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 35))
def test_what_is_own_and_what_is_shared_is_the_whole(words: list[str], place: int) -> None:
    encoded = [word.encode() for word in words]
    runs = own_runs(encoded, shared_runs([" ".join(words[place : place + 5])] * SHARED_ROWS))
    assert sum(map(len, runs)) <= len(words) and (not words or any(runs))
    assert own_runs(encoded, NOTHING_SHARED) == [encoded]
