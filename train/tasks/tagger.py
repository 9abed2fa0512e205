"""Fine-tuning of a BERT-type tagger: one tag a word, learned and read at the word's first subword."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.batches.collate import IGNORED, pad_tags
from train.model.adapter import adapted_model, use_loraplus_optimizer


def build_tagger_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, labels: list[str], **arguments: Any
) -> Any:
    """A transformers Trainer; tags become class indices in the order of `labels`. `arguments`: of
    TrainingArguments."""
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(
        model=adapted_model(config, base, labels),
        args=TrainingArguments(**arguments, label_names=["labels"], remove_unused_columns=False),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        data_collator=partial(pad_tags, pad_token_id=load_tokenizer(base).pad_token_id, labels=labels),
        compute_metrics=tag_accuracy,
        compute_loss_func=loss_of_words,
    )
    return use_loraplus_optimizer(trainer, config)


def loss_of_words(outputs: Any, targets: Any, num_items_in_batch: Any = None) -> Any:
    """Mean cross-entropy over the tagged words of a whole step: BERT's own is that of a micro-batch, whatever its
    number of words."""
    from torch.nn.functional import cross_entropy

    total = cross_entropy(
        outputs.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / ((targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def tag_accuracy(prediction: Any) -> dict[str, float]:
    """Share of the validation rows' words whose likeliest tag is the gold one."""
    learned = prediction.label_ids != IGNORED
    return {"accuracy": float((prediction.predictions.argmax(axis=-1) == prediction.label_ids)[learned].mean())}
