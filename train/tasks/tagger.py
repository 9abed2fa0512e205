"""Fine-tuning of a BERT-type tagger: one tag a word, learned and read at the word's first subword."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.collate import pad_tags
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.tasks.class_weights import weighted_loss
from train.tasks.cross_entropy import cross_entropy


def build_tagger_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; tags become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import Trainer, TrainingArguments

    loss = weighted_loss(config, train_rows, labels)  # which may refuse a weight: before the model is loaded
    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"], remove_unused_columns=False),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        data_collator=partial(pad_tags, pad_token_id=load_tokenizer(base).pad_token_id, labels=labels),
        compute_loss_func=loss or partial(cross_entropy, smoothing=config.train.label_smoothing),
    )
    return use_loraplus_optimizer(trainer, config)
