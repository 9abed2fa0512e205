"""Rows get the tokens that they are asked by, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from infra import tokenizer

pytestmark = pytest.mark.unit
FIELDS: Any = {"task": "causal-lm"}
GPT = Manifest.model_construct(**FIELDS)
CHAT = {"id": "1", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}


class Letters:
    """A token a letter; a conversation is its letters and a 0 for the assistant to speak."""

    eos_token_id = 99

    def __call__(self, text: str, **settings: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def apply_chat_template(self, messages: list[dict[str, str]], **settings: Any) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]] + [0]


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "load_tokenizer", lambda directory: Letters())


def test_a_reference_is_tokenized_only_where_it_is_to_be_scored() -> None:
    completion, text = {"id": "2", "prompt": "a", "completion": "b"}, {"id": "3", "text": "t"}
    for row, wanted in ((CHAT, ([104, 105, 0], [121, 111, 99])), (completion, ([97], [98, 99]))):
        assert tokenizer.with_tokens(GPT, Path("r"), [row]) == [row]
        assert tokenizer.with_tokens(GPT, Path("r"), [row], references=True) == [
            row | {"prompt_ids": wanted[0], "chosen_ids": wanted[1]}
        ]
    assert tokenizer.with_tokens(GPT, Path("r"), [text], references=True) == [text], "a plain text is scored as it is"
    assert tokenizer.with_tokens(GPT, Path("r"), [], references=True) == []


def test_a_preference_pair_has_the_tokens_of_both_answers_whatever_is_asked() -> None:
    for references in (False, True):
        (row,) = tokenizer.with_tokens(GPT, Path("r"), [CHAT | {"rejected": "no"}], references=references)
        assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == (
            [104, 105, 0],
            [121, 111, 99],
            [110, 111, 99],
        )
