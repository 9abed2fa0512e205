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


def build_classifier_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; labels become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"], remove_unused_columns=False),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        data_collator=partial(pad_classes, pad_token_id=load_tokenizer(base).pad_token_id, labels=labels),
        compute_metrics={"single_label": accuracy, "multi_label": subset_accuracy, "regression": absolute_error}[
            config.problem
        ],
    )
    return use_loraplus_optimizer(trainer, config)


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of validation rows whose likeliest class is the gold one."""
    return {"accuracy": float((prediction.predictions.argmax(axis=-1) == prediction.label_ids).mean())}


def subset_accuracy(prediction: Any) -> dict[str, float]:
    """Share of validation rows whose classes are all right; a logit above 0 is a probability above a half."""
    return {"accuracy": float(((prediction.predictions > 0) == (prediction.label_ids > 0.5)).all(axis=-1).mean())}


def absolute_error(prediction: Any) -> dict[str, float]:
    return {
        "mean_absolute_error": float(abs(prediction.predictions.reshape(-1) - prediction.label_ids.reshape(-1)).mean())
    }
