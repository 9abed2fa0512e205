"""Fine-tuning of a BERT-type classifier: LoRA in the encoder, the new head trained whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from train.batches import encode
from train.sources import Row


def build_classifier_trainer(
    config: RunConfig, base: Path, arguments: dict[str, Any], train_rows: Any, validation_rows: Any, labels: list[str]
) -> Any:
    """A transformers Trainer; labels become class indices in the order of `labels`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(base)
    lora = config.train.lora
    adapter = LoraConfig(task_type="SEQ_CLS", r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.target_modules)
    return Trainer(
        model=get_peft_model(load_classifier(base, labels), adapter),
        args=TrainingArguments(**arguments, label_names=["labels"]),
        train_dataset=encode(train_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        eval_dataset=encode(validation_rows, lambda rows: encode_rows(tokenizer, rows, labels)),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )


def load_classifier(base: Path, labels: list[str]) -> Any:
    """float32, with a new head of len(labels) classes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    names = dict(enumerate(labels))
    indices = {name: index for index, name in names.items()}
    return AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32, num_labels=len(labels), id2label=names, label2id=indices)


def encode_rows(tokenizer: Any, rows: list[Row], labels: list[str]) -> list[dict[str, Any]]:
    encoded = tokenizer([row["text"] for row in rows], truncation=False)
    columns = zip(encoded["input_ids"], encoded["attention_mask"], rows, strict=True)
    return [{"input_ids": ids, "attention_mask": mask, "labels": labels.index(row["label"])} for ids, mask, row in columns]


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of validation rows whose likeliest class is the gold one."""
    return {"accuracy": float((prediction.predictions.argmax(axis=-1) == prediction.label_ids).mean())}
