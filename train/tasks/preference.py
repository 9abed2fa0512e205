"""Preference tuning of a GPT-type model, by the method that the run names: what all of them share, and the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.model.adapter import lora_config, packed_in_four_bits, require_device
from train.model.dtype import base_dtype
from train.model.heads import new_model


def build_preference_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any
) -> Any:
    """A TRL trainer over the tokens of prompts and answers. `arguments`: of TrainingArguments. Raises InputError where
    the rows are not of the method's kind."""
    from train.tasks.dpo import build_dpo_trainer
    from train.tasks.kto import build_kto_trainer
    from train.tasks.without_reference import build_trainer_without_reference

    method = config.train.preference.method
    build = {"dpo": build_dpo_trainer, "kto": build_kto_trainer}.get(method, build_trainer_without_reference)
    return build(config, base, train_rows, validation_rows, **arguments)


def model_arguments(config: RunConfig, base: Path) -> dict[str, Any]:
    """Model, tokenizer and adapter, as every TRL trainer takes them. Raises RefusedError where the hardware cannot do
    the method."""
    require_device(config)
    quantization = {"quantization_config": packed_in_four_bits()} if config.train.method == "qlora" else {}
    model = new_model(config, base, [], dtype=base_dtype(config, base), **quantization)
    return {
        "model": model,
        "processing_class": load_tokenizer(base),
        "peft_config": None if config.train.method == "full" else lora_config(config, model.new_layers),
    }


def padding_of(tokenizer: Any) -> int:
    """What fills a row up: masked everywhere, so any token will do."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
