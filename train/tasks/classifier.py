"""Fine-tuning of a BERT-type classifier: one class, any number of classes, or one number; the new head is trained
whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.collate import pad_classes
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.tasks.class_weights import weighted_loss
from train.tasks.cross_entropy import cross_entropy


def build_classifier_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; labels become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import Trainer, TrainingArguments

    smoothing = config.train.label_smoothing
    loss = weighted_loss(config, train_rows, labels)  # which may refuse a weight: before the model is loaded
    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"], remove_unused_columns=False),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        data_collator=partial(pad_classes, pad_token_id=load_tokenizer(base).pad_token_id, labels=labels),
        compute_loss_func=loss or (partial(cross_entropy, smoothing=smoothing) if smoothing else None),
    )
    return use_loraplus_optimizer(trainer, config)
