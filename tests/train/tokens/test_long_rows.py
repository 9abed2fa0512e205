"""A row of too many tokens is cut where the config says so: every piece fits, and no word of a text is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.tokenizer import Tokenizer
from train.rows.shape import Shape
from train.tokens.encode import Rules, encode, length_of
from train.tokens.long_rows import fit

pytestmark = pytest.mark.unit
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@pytest.fixture(scope="session")
def ours(tiny_gpt: Path) -> Tokenizer:
    return Tokenizer(tiny_gpt)


def cut(tokenizer: Tokenizer, shape: Shape, long: str, most: int, row: dict[str, Any]) -> list[Any]:
    rules = Rules(tokenizer.folder, shape, "all", long, most)
    return fit(tokenizer, row, encode(tokenizer, rules, row), rules)


@QUIET
@given(TEXT, st.integers(8, 40))
def test_pieces_of_a_text_are_the_text_and_the_last_alone_ends(ours: Tokenizer, text: str, most: int) -> None:
    parts = cut(ours, "text", "chunk", most, {"id": "a", "text": text})
    assert "".join(row["text"] for row, _ in parts) == text
    assert all(length_of(tokens) <= most for _, tokens in parts)
    ends = [tokens["input_ids"][-1] == ours.eos_id for _, tokens in parts]
    assert ends[-1] and all(ours.ids(row["text"]) == tokens["input_ids"] for row, tokens in parts[:-1])
    assert [row["id"] for row, _ in parts] == (["a"] if len(parts) == 1 else [f"a#{n}" for n in range(len(parts))])


@QUIET
@given(TEXT, st.integers(8, 40))
def test_the_end_of_a_text_stays_and_is_what_serving_will_send(ours: Tokenizer, text: str, most: int) -> None:
    ((row, tokens),) = cut(ours, "label", "truncate_left", most, {"id": "a", "text": text, "label": "x"})
    assert text.endswith(row["text"]) and row["text"] and row["label"] == "x"
    assert tokens["input_ids"] == ours.ids(row["text"]) and len(tokens["input_ids"]) <= most


def test_a_prompt_is_shortened_and_its_answer_never(ours: Tokenizer) -> None:
    row = {"id": "a", "prompt": "film " * 50, "completion": "good"}
    ((shorter, tokens),) = cut(ours, "completion", "truncate_left", 20, row)
    assert shorter["completion"] == "good" and row["prompt"].endswith(shorter["prompt"]) and length_of(tokens) <= 20
    assert tokens == encode(ours, Rules(ours.folder, "completion", "all", "refuse", 20), shorter)
    ((same, _),) = cut(ours, "completion", "truncate_left", 8, row | {"completion": "good " * 20})
    assert same["prompt"] == row["prompt"], "an answer that is too long by itself stays a fault"


def test_the_oldest_turns_go_and_the_system_turn_stays(ours: Tokenizer) -> None:
    turns = [{"role": "system", "content": "s"}]
    for number in range(9):
        turns += [{"role": "user", "content": f"film {number}"}, {"role": "assistant", "content": "good"}]
    ((row, tokens),) = cut(ours, "chat", "truncate_left", 80, {"id": "a", "messages": turns})
    assert row["messages"][0] == turns[0] and row["messages"][1:] == turns[-len(row["messages"]) + 1 :]
    assert row["messages"][1]["role"] == "user" and length_of(tokens) <= 80


@pytest.mark.parametrize("shape", ["label", "chat"])
def test_only_texts_are_cut_to_pieces(ours: Tokenizer, shape: Shape) -> None:
    turns = [{"role": "user", "content": "film " * 20}, {"role": "assistant", "content": "good"}]
    row = {"id": "a", "text": "film " * 20, "label": "x"} if shape == "label" else {"id": "a", "messages": turns}
    assert [found for found, _ in cut(ours, shape, "chunk", 8, row)] == [row]
