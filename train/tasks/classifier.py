"""Fine-tuning of a BERT-type classifier: one class, any number of classes, or one number; the new head is trained
whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import classified_texts, load_tokenizer
from train.batches.dataset import EncodedRow, encode
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.sources.source import Row
from train.tasks.class_weights import weighted_loss


def build_classifier_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; labels become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = load_tokenizer(base)
    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"]),
        train_dataset=encode(train_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        eval_dataset=encode(validation_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics={"single_label": accuracy, "multi_label": subset_accuracy, "regression": absolute_error}[
            config.problem
        ],
        compute_loss_func=weighted_loss(config, train_rows, labels),
    )
    return use_loraplus_optimizer(trainer, config)


def encode_rows(tokenizer: Any, rows: list[Row], labels: list[str]) -> list[EncodedRow]:
    encoded = tokenizer(classified_texts(tokenizer, rows), truncation=False)
    columns = zip(encoded["input_ids"], encoded["attention_mask"], rows, strict=True)
    return [{"input_ids": ids, "attention_mask": mask, "labels": target(row, labels)} for ids, mask, row in columns]


def target(row: Row, labels: list[str]) -> int | float | list[float]:
    """A class index, a number, or 0.0 or 1.0 for each class."""
    if "value" in row:
        return float(row["value"])
    return [float(label in row["labels"]) for label in labels] if "labels" in row else labels.index(row["label"])


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
