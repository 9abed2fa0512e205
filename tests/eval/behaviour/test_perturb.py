"""Spoilt questions: always the same ones, never empty ones, and nothing but questions."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.run.behaviour import Perturbation
from eval.behaviour.perturb import NEIGHBOURS, change_question, last_question, perturb, perturb_row

pytestmark = pytest.mark.unit
KINDS = st.sampled_from(get_args(Perturbation))
RATES = st.floats(0, 1)
SENTENCE = "The film was far too long, but its ending made me cry."


@given(KINDS, st.text(), RATES, st.text(max_size=5))
def test_the_same_seed_spoils_the_same_text_alike_and_never_empties_it(
    kind: Perturbation, text: str, rate: float, seed: str
) -> None:
    perturbed = perturb(kind, text, rate, seed)
    assert perturbed == perturb(kind, text, rate, seed) and perturb(kind, text, 0, seed) == text
    assert bool(perturbed.strip()) == bool(text.strip())


@given(KINDS, st.floats(0.01, 1), st.integers())
def test_a_sentence_is_changed_and_only_as_its_kind_says(kind: Perturbation, rate: float, seed: int) -> None:
    perturbed = perturb(kind, SENTENCE, rate, str(seed))
    touched = max(1, round(rate * len(SENTENCE.split())))
    assert perturbed != SENTENCE
    if kind == "truncation":
        assert SENTENCE.startswith(perturbed) and len(perturbed.split()) == max(1, len(SENTENCE.split()) - touched)
    elif kind == "whitespace":
        assert "".join(perturbed.split()) == "".join(SENTENCE.split())
    else:
        assert sum(one != other for one, other in zip(SENTENCE.split(), perturbed.split(), strict=True)) == touched
        assert kind != "case" or perturbed.lower() == SENTENCE.lower()
        assert kind != "punctuation" or "".join(filter(str.isalnum, perturbed)) == "".join(
            filter(str.isalnum, SENTENCE)
        )


def test_other_seeds_and_other_rows_are_spoilt_otherwise() -> None:
    assert len({perturb("typos", SENTENCE, 0.3, str(seed)) for seed in range(20)}) > 15
    rows = [perturb_row({"id": name, "text": SENTENCE}, "typos", 0.3, 17)["text"] for name in "abcdefgh"]
    assert len({*rows}) > 5


def test_neighbouring_keys_are_neighbours_both_ways() -> None:
    assert all(key in NEIGHBOURS[near] for key, keys in NEIGHBOURS.items() for near in keys)


CHAT = [
    {
        "role": "system",
        "content": "Answer with one call.\n" + json.dumps({"name": "find_train", "parameters": {"city": "string"}}),
    },
    {"role": "user", "content": "I asked this before."},
    {"role": "assistant", "content": '{"name": "find_train"}'},
    {"role": "user", "content": SENTENCE},
    {"role": "assistant", "content": "the gold answer"},
]


@given(KINDS, st.floats(0.01, 1))
def test_of_a_chat_only_the_last_user_turn_is_spoilt(kind: Perturbation, rate: float) -> None:
    row = {"id": "1", "messages": [dict(turn) for turn in CHAT], "reference": "the gold answer"}
    perturbed = perturb_row(row, kind, rate, 17)
    assert [one == other for one, other in zip(perturbed["messages"], CHAT, strict=True)] == [
        True,
        True,
        True,
        False,
        True,
    ]
    assert row["messages"] == CHAT and perturbed["reference"] == row["reference"], "the row itself stays"


@given(st.sampled_from(["typos", "case"]), st.lists(st.text(min_size=1), min_size=1, max_size=12), RATES)
def test_a_taggers_words_stay_as_many_as_its_tags(kind: Perturbation, words: list[str], rate: float) -> None:
    row = {"id": "1", "tokens": words, "tags": ["O"] * len(words)}
    perturbed = perturb_row(row, kind, rate, 17)
    assert (
        len(perturbed["tokens"]) == len(words)
        and perturbed["tags"] == row["tags"]
        and all(bool(one) for one in perturbed["tokens"])
    )
    assert perturb_row(row, kind, 0, 17) == row


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a b"},
        {"text": "a b", "text_pair": None},
        {"text": "a", "text_pair": "b"},
        {"prompt": "a b"},
        {"tokens": ["a", "b"]},
        {"messages": [*CHAT[:1], {"role": "user", "content": "a b"}]},
    ],
)
def test_every_kind_of_row_has_a_question_that_can_be_changed(row: dict[str, Any]) -> None:
    assert last_question(row) == "a b" and last_question(change_question(row, str.upper)) == "A B"
