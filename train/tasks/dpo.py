"""Preference tuning of a GPT-type model: the chosen answer made likelier than the rejected one, held to the model it
began as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.model.adapter import lora_config, packed_in_four_bits, require_device, use_loraplus_optimizer
from train.model.dtype import base_dtype
from train.model.heads import new_model


def build_dpo_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL DPOTrainer over the tokens of the pairs; with an adapter the reference is the model with it off,
    with method full a second copy. `arguments`: of TrainingArguments."""
    from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]  # lazy exports

    class PairTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """TRL would render and tokenize; prepare has."""
            return dataset

    require_device(config)
    settings, tokenizer = config.train, load_tokenizer(base)
    quantization = {"quantization_config": packed_in_four_bits()} if settings.method == "qlora" else {}
    trainer = PairTrainer(
        model=new_model(config, base, [], dtype=base_dtype(config, base), **quantization),
        args=DPOConfig(
            **arguments,
            remove_unused_columns=False,
            beta=settings.preference.beta,
            loss_type=[settings.preference.loss],
            max_length=None,
        ),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        peft_config=None if settings.method == "full" else lora_config(config),
    )
    return use_loraplus_optimizer(trainer, config)
