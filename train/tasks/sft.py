"""Fine-tuning of a GPT-type model on chats (loss on the assistant's turns), prompts with completions (loss on the
completion) or plain text (loss on every token)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.collate import flatten, pack, pad
from train.layers.attention import use_attention, why_not_flattened
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.model.dtype import choose_dtype


def build_sft_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A transformers Trainer over the tokens that prepare made; its collator says how they are laid out. `arguments`:
    of TrainingArguments."""
    from functools import partial

    from transformers import Trainer, TrainingArguments

    from train.layers.linear_cross_entropy import fuse_head, smooth_loss

    tokenizer = load_tokenizer(base)
    model = adapted_model(config, base, [])
    causal = model if config.train.method == "full" else model.get_base_model()
    smoothing, dtype = config.train.label_smoothing, choose_dtype(config.train.dtype)
    flattened = config.train.packing != "none" and why_not_flattened(causal) is None
    fused = flattened and fuse_head(causal, smoothing, dtype)  # it asks the model, which a GPU's attention would not
    if smoothing and not fused:
        smooth_loss(causal, smoothing)
    layout = use_attention(causal, config.train, dtype)
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
