"""Fine-tuning of a BERT-type classifier: one class, any number of classes, or one number; the new head is trained
whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.dataset import EncodedRow, encode
from train.model.adapter import adapted_model, use_loraplus_optimizer
from train.sources.source import Row
from train.tasks.cross_entropy import cross_entropy


def build_classifier_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; labels become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer, smoothing = load_tokenizer(base), config.train.label_smoothing
    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"]),
        train_dataset=encode(train_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        eval_dataset=encode(validation_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_loss_func=partial(cross_entropy, smoothing=smoothing) if smoothing else None,
    )
    return use_loraplus_optimizer(trainer, config)


def encode_rows(tokenizer: Any, rows: list[Row], labels: list[str]) -> list[EncodedRow]:
    encoded = tokenizer([row["text"] for row in rows], truncation=False)
    columns = zip(encoded["input_ids"], encoded["attention_mask"], rows, strict=True)
    return [{"input_ids": ids, "attention_mask": mask, "labels": target(row, labels)} for ids, mask, row in columns]


def target(row: Row, labels: list[str]) -> int | float | list[float]:
    """A class index, a number, or 0.0 or 1.0 for each class."""
    if "value" in row:
        return float(row["value"])
    return [float(label in row["labels"]) for label in labels] if "labels" in row else labels.index(row["label"])
