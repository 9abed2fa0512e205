"""Fine-tuning of a GPT-type model on chats (loss on the last answer), prompts with completions (on the completion) or plain text (on every token)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from infra.tokenizer import encode_answer, encode_turns, load_tokenizer
from train.adapter import adapted_model, speed_up_b
from train.sources import Row

IGNORED = -100


def encode_row(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    """input_ids and labels of a row of any of the three shapes. Serving sends a prompt or a text with the tokenizer's own special tokens."""
    if "messages" in row:
        return encode_chat(tokenizer, row["messages"])
    if "prompt" in row:
        return masked(tokenizer(row["prompt"])["input_ids"], encode_answer(tokenizer, row["completion"]))
    return masked([], [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id])


def encode_chat(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """input_ids and labels of one conversation; the prompt's tokens are exactly those that serving sends."""
    return masked(*encode_turns(tokenizer, messages[:-1], messages[-1]["content"]))


def masked(prompt: list[int], answer: list[int]) -> dict[str, list[int]]:
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def build_sft_trainer(config: RunConfig, base: Path, arguments: dict[str, Any], train_rows: list[Row], validation_rows: list[Row]) -> Any:
    """A TRL SFTTrainer over pre-tokenised rows (so that what is counted in prepare is what is trained on)."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # lazy exports

    tokenizer = load_tokenizer(base)
    trainer = SFTTrainer(
        model=adapted_model(config, base, []),
        args=SFTConfig(**arguments, max_length=None, packing=False, gradient_checkpointing=False),
        train_dataset=Dataset.from_list([encode_row(tokenizer, row) for row in train_rows]),
        eval_dataset=Dataset.from_list([encode_row(tokenizer, row) for row in validation_rows]),
        processing_class=tokenizer,
    )
    return speed_up_b(trainer, config)
