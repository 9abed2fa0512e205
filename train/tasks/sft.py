"""Fine-tuning of a GPT-type model on chats (loss on the assistant's turns), prompts with completions (loss on the
completion) or plain text (loss on every token)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.collate import flatten, pack, pad
from train.layers.attention import use_attention
from train.model.adapter import adapted_model, use_loraplus_optimizer


def build_sft_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A transformers Trainer over the tokens that prepare made; its collator says how they are laid out. `arguments`:
    of TrainingArguments."""
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
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments, remove_unused_columns=False, prediction_loss_only=True),
        train_dataset=pack(train_rows, config.data.max_tokens) if config.train.packing == "sequence" else train_rows,
        eval_dataset=validation_rows,
        data_collator=partial(pad, pad_token_id=tokenizer.pad_token_id)
        if layout == "padded"
        else partial(flatten, share=layout == "shared"),
        processing_class=tokenizer,
    )
    return use_loraplus_optimizer(trainer, config)
