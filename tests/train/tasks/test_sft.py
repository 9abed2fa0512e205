"""The loss sees the answer and its end, and the prompt is what serving will send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.batches.collate import IGNORED
from train.tasks.classifier import accuracy, encode_rows
from train.tasks.sft import encode_chat

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.lists(TEXT, min_size=1, max_size=3), TEXT)
def test_only_the_answer_and_its_end_token_are_learned(tokenizer: Any, asked: list[str], answer: str) -> None:
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(asked)]
    encoded = encode_chat(tokenizer, [*messages, {"role": "assistant", "content": answer}])
    learned = [label for label in encoded["labels"] if label != IGNORED]
    assert len(encoded["labels"]) == len(encoded["input_ids"])
    assert learned == encoded["input_ids"][-len(learned) :], "labels are the tokens themselves, at the end"
    assert learned[-1] == tokenizer.eos_token_id and tokenizer.decode(learned[:-1]) == answer


def test_the_prompts_tokens_are_those_that_serving_sends(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    encoded = encode_chat(tokenizer, messages)
    sent = tokenizer(
        tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False),
        add_special_tokens=False,
    )["input_ids"]
    assert encoded["input_ids"][: len(sent)] == sent and encoded["labels"][: len(sent)] == [IGNORED] * len(sent)


def test_earlier_assistant_turns_are_prompt_not_answer(tokenizer: Any) -> None:
    messages = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    labels = encode_chat(tokenizer, messages)["labels"]
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "assistant<|im_end|>"


def test_class_indices_follow_the_order_of_the_labels(tokenizer: Any) -> None:
    rows = [{"text": "good film", "label": "good"}, {"text": "bad", "label": "bad"}]
    encoded = encode_rows(tokenizer, rows, ["bad", "good"])
    assert [row["labels"] for row in encoded] == [1, 0]
    assert all(len(row["input_ids"]) == len(row["attention_mask"]) for row in encoded)


def test_accuracy_is_the_share_of_likeliest_classes_that_are_gold() -> None:
    import numpy
    from transformers import EvalPrediction

    logits = numpy.array([[0.1, 0.9], [2.0, -1.0], [0.0, 1.0], [3.0, 1.0]])
    assert accuracy(EvalPrediction(predictions=logits, label_ids=numpy.array([1, 0, 0, 0]))) == {"accuracy": 0.75}
