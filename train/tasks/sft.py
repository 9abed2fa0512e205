"""Fine-tuning of a GPT-type model on chats (loss on the last answer), prompts with completions (on the completion) or
plain text (on every token)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import encode_answer, encode_turns, load_tokenizer
from train.batches.collate import IGNORED, flatten, pack, pad
from train.batches.dataset import encode
from train.layers.attention import use_attention
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.sources.source import Row


def encode_row(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    """input_ids and labels of a row of any of the three shapes. Serving sends a prompt or a text with the tokenizer's
    own special tokens."""
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


def build_sft_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A transformers Trainer over rows encoded here (so that what is counted in prepare is what is trained on). Its
    collator says how they are laid out. `arguments`: of TrainingArguments."""
    from functools import partial

    from transformers import Trainer, TrainingArguments

    from train.layers.linear_cross_entropy import fuse_head, smooth_loss

    tokenizer = load_tokenizer(base)
    model = adapted_model(config, base, [])
    causal = model if config.train.method == "full" else model.get_base_model()
    layout = use_attention(causal, config.train)
    smoothing = config.train.label_smoothing
    if (layout == "padded" or not fuse_head(causal, smoothing)) and smoothing:
        smooth_loss(causal, smoothing)
    rows, validation = (
        encode(part, lambda found: [encode_row(tokenizer, row) for row in found])
        for part in (train_rows, validation_rows)
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments, remove_unused_columns=False, prediction_loss_only=True),
        train_dataset=pack(rows, config.data.max_tokens) if config.train.packing == "sequence" else rows,
        eval_dataset=validation,
        data_collator=partial(pad, pad_token_id=tokenizer.pad_token_id)
        if layout == "padded"
        else partial(flatten, share=layout == "shared"),
        processing_class=tokenizer,
    )
    return use_loraplus_optimizer(trainer, config)
