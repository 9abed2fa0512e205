"""KTO's micro-batch: each prompt with its answer, and with its neighbour's for the divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prepared_rows import with_tokens
from train.tasks.kto import answer, pad_answers, split_row

pytestmark = pytest.mark.unit
IDS = st.lists(st.integers(1, 99), min_size=1, max_size=6)
PAD = 0


def real(ids: Any, mask: Any) -> list[int]:
    return [int(token) for token, shown in zip(ids, mask, strict=True) if shown]


@given(st.lists(st.tuples(IDS, IDS, st.booleans()), min_size=2, max_size=5))
def test_every_answer_is_whole_and_the_divergence_is_asked_of_the_same_answers(
    drawn: list[tuple[list[int], list[int], bool]],
) -> None:
    found = pad_answers([answer(*one) for one in drawn], PAD)
    sequences = [real(*row) for row in zip(found["input_ids"], found["attention_mask"], strict=True)]
    assert sequences == [prompt + completion for prompt, completion, _ in drawn]
    answers = [real(*row) for row in zip(found["input_ids"], found["completion_mask"], strict=True)]
    others = [real(*row) for row in zip(found["KL_input_ids"], found["KL_completion_mask"], strict=True)]
    assert answers == [completion for _, completion, _ in drawn]
    assert others == [answers[-1], *answers[:-1]], "the paper's: the answers of the batch, each beside another prompt"
    assert found["label"].tolist() == [good for *_, good in drawn]


def test_a_pair_is_two_answers_and_a_single_one_is_itself(tiny_gpt: Path) -> None:
    turns = [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "good"}]
    (pair,) = with_tokens(tiny_gpt, "preference", [{"messages": turns, "rejected": "bad"}])
    both = split_row(pair)
    assert [one["label"] for one in both] == [True, False] and both[0]["prompt_ids"] == both[1]["prompt_ids"]
    alone = with_tokens(tiny_gpt, "unpaired", [{"messages": turns, "desirable": good} for good in (True, False)])
    assert [split_row(one) for one in alone] == [both[:1], [both[0] | {"label": False}]]
    assert both[0]["length"] == alone[0]["length"]
