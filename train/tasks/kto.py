"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306): answers that are good or bad, each by
itself, held to the model it began as."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.run.config import RunConfig
from infra.tokenizer import encode_reference, load_tokenizer
from train.batches.collate import ModelInputs
from train.batches.dataset import EncodedRow, encode
from train.model.adapter import use_loraplus_optimizer
from train.sources.source import Row
from train.tasks.preference import encode_preference, model_arguments, padding_of


def build_kto_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL KTOTrainer over tokens. `arguments`: of TrainingArguments. Raises InputError where all rows of the train
    split are good, or all bad."""
    from trl import KTOConfig, KTOTrainer  # type: ignore[attr-defined]  # lazy exports

    class AnswerTrainer(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """TRL would render, tokenize and pair rows up for its estimate of the divergence, in the order of the
            file."""
            return dataset

    tokenizer = load_tokenizer(base)
    rows, validation = (encode(part, partial(encode_answers, tokenizer)) for part in (train_rows, validation_rows))
    require_both(rows["label"])
    preference, model = config.train.preference, model_arguments(config, base)
    trainer = AnswerTrainer(
        args=KTOConfig(
            **arguments,
            remove_unused_columns=False,
            beta=preference.beta,
            desirable_weight=preference.desirable_weight,
            undesirable_weight=preference.undesirable_weight,
            max_length=None,
        ),
        data_collator=partial(pad_answers, pad_token_id=padding_of(tokenizer)),
        train_dataset=rows,
        eval_dataset=validation,
        **model,
    )
    return use_loraplus_optimizer(trainer, config)


def require_both(labels: Any) -> None:
    good = sum(labels)
    if good in (0, len(labels)):
        raise InputError(
            f"train split: found {good} good and {len(labels) - good} bad answers, expected some of both",
            hint="give data rows with desirable true and false",
        )


def encode_answers(tokenizer: Any, rows: list[Row]) -> list[EncodedRow]:
    """prompt_ids, completion_ids, input_ids (both) and label (whether it is good) of each answer; a pair has two."""
    return [found for row in rows for found in split_row(tokenizer, row)]


def split_row(tokenizer: Any, row: Row) -> list[EncodedRow]:
    if "rejected" in row:
        pair = encode_preference(tokenizer, row)
        return [answer(pair["prompt_ids"], pair[name], name == "chosen_ids") for name in ("chosen_ids", "rejected_ids")]
    found = encode_reference(tokenizer, row)
    return [answer(found["prompt_ids"], found["chosen_ids"], bool(row["desirable"]))]


def answer(prompt: list[int], completion: list[int], good: bool) -> EncodedRow:
    return {"prompt_ids": prompt, "completion_ids": completion, "input_ids": prompt + completion, "label": good}


def pad_answers(rows: list[EncodedRow], pad_token_id: int) -> ModelInputs:
    """TRL's own layout; each prompt also with the answer of the row before it in the micro-batch, from which the
    divergence from the reference is estimated (section 4.2 of the paper)."""
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    others = [rows[-1], *rows[:-1]]
    paired = [row | {"KL_completion_ids": other["completion_ids"]} for row, other in zip(rows, others, strict=True)]
    found: ModelInputs = DataCollatorForUnpairedPreference(pad_token_id=pad_token_id)(paired)
    return found
