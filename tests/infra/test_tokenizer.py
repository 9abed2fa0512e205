"""Rows get the tokens that they are asked by, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from infra.tokenizer import Tokenizer, with_tokens
from tests.infra.test_chat_template import CHATML, hf_tokenizer

pytestmark = pytest.mark.unit
FIELDS: Any = {"task": "causal-lm", "config": {}}
GPT = Manifest.model_construct(**FIELDS)
CHAT = {"id": "1", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    hf_tokenizer(CHATML).save_pretrained(folder)
    return folder


def text_of(release: Path, ids: list[int]) -> str:
    return str(Tokenizer(release).fast.decode(ids, skip_special_tokens=False))


def test_a_reference_is_tokenized_only_where_it_is_to_be_scored(release: Path) -> None:
    """Up to the token that ends it: what a template writes after that no server generates."""
    asked = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    completion, text = {"id": "2", "prompt": "a", "completion": "b"}, {"id": "3", "text": "t"}
    for row, wanted in ((CHAT, (asked, "yo<|im_end|>")), (completion, ("a", "b</s>"))):
        assert with_tokens(GPT, release, [row]) == [row]
        (found,) = with_tokens(GPT, release, [row], references=True)
        assert tuple(text_of(release, found[name]) for name in ("prompt_ids", "chosen_ids")) == wanted
    assert with_tokens(GPT, release, [text], references=True) == [text], "a plain text is scored as it is"
    assert with_tokens(GPT, release, [], references=True) == []


def test_a_reference_that_was_not_learnt_is_scored_all_the_same(release: Path) -> None:
    turns: Any = CHAT["messages"]
    unlearnt = CHAT | {"messages": [turns[0], turns[1] | {"train": False}]}
    scored = [with_tokens(GPT, release, [row], references=True)[0]["chosen_ids"] for row in (CHAT, unlearnt)]
    assert scored[0] == scored[1]


@pytest.mark.parametrize("references", [False, True])
def test_a_preference_pair_has_the_tokens_of_both_answers_whatever_is_asked(release: Path, references: bool) -> None:
    (row,) = with_tokens(GPT, release, [CHAT | {"rejected": "no"}], references=references)
    found = [text_of(release, row[name]) for name in ("chosen_ids", "rejected_ids")]
    assert found == ["yo<|im_end|>", "no<|im_end|>"] and text_of(release, row["prompt_ids"]).endswith("assistant\n")
