"""Chat fine-tuning of a GPT-type model: loss on the assistant's answer and its end token, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from train.attention import use_attention
from train.batches import IGNORED, encode, flatten, pack, pad
from train.hardware import base_dtype


def encode_chat(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """input_ids and labels of one conversation; the prompt's tokens are exactly those that serving sends."""
    prompt: list[int] = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=False)
    answer: list[int] = tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def build_sft_trainer(config: RunConfig, base: Path, arguments: dict[str, Any], train_rows: Any, validation_rows: Any) -> Any:
    """A transformers Trainer over rows encoded here (so that what is counted in prepare is what is trained on). `flattened` says how they are laid out."""
    from functools import partial

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(base)
    lora = config.train.lora
    model = AutoModelForCausalLM.from_pretrained(base, dtype=base_dtype(config, base))
    adapter = LoraConfig(task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.target_modules)
    flattened = use_attention(model, config.train)
    rows, validation = (encode(part, lambda found: [encode_chat(tokenizer, row["messages"]) for row in found]) for part in (train_rows, validation_rows))
    trainer = Trainer(
        model=get_peft_model(model, adapter),
        args=TrainingArguments(**arguments, remove_unused_columns=False, prediction_loss_only=True),
        train_dataset=pack(rows, config.data.max_tokens) if config.train.packing == "sequence" else rows,
        eval_dataset=validation,
        data_collator=flatten if flattened else partial(pad, pad_token_id=tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    trainer.flattened = flattened
    return trainer
