"""Chat fine-tuning of a GPT-type model: loss on the assistant's answer and its end token, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from train.sources import Row

IGNORED = -100


def encode_chat(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """input_ids and labels of one conversation; the prompt's tokens are exactly those that serving sends."""
    prompt: list[int] = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=False)
    answer: list[int] = tokenizer(messages[-1]["content"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def build_sft_trainer(config: RunConfig, base: Path, arguments: dict[str, Any], train_rows: list[Row], validation_rows: list[Row]) -> Any:
    """A TRL SFTTrainer over pre-tokenised rows (so that what is counted in prepare is what is trained on)."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # lazy exports

    tokenizer = AutoTokenizer.from_pretrained(base)
    lora = config.train.lora
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=SFTConfig(**arguments, max_length=None, packing=False, gradient_checkpointing=False),
        train_dataset=Dataset.from_list([encode_chat(tokenizer, row["messages"]) for row in train_rows]),
        eval_dataset=Dataset.from_list([encode_chat(tokenizer, row["messages"]) for row in validation_rows]),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.target_modules),
    )
