"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306): answers that are good or bad, each by
itself, held to the model it began as."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from train.batches.collate import ModelInputs
from train.batches.dataset import EncodedRow, derive
from train.model.adapter import use_loraplus_optimizer
from train.tasks.trl_arguments import model_arguments, padding_of


def build_kto_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL KTOTrainer over tokens. `arguments`: of TrainingArguments."""
    from trl import KTOConfig, KTOTrainer  # type: ignore[attr-defined]  # lazy exports

    class AnswerTrainer(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """TRL would render, tokenize and pair rows up for its estimate of the divergence, in the order of the
            file."""
            return dataset

    rows, validation = (derive(part, split_row) for part in (train_rows, validation_rows))
    preference: Any = config.train.preference  # resolved: no number of it is None
    model = model_arguments(config, base)
    trainer = AnswerTrainer(
        args=KTOConfig(
            **arguments,
            remove_unused_columns=False,
            beta=preference.beta,
            desirable_weight=preference.desirable_weight,
            undesirable_weight=preference.undesirable_weight,
            max_length=None,
        ),
        data_collator=partial(pad_answers, pad_token_id=padding_of(model["processing_class"])),
        train_dataset=rows,
        eval_dataset=validation,
        **model,
    )
    return use_loraplus_optimizer(trainer, config)


def split_row(row: EncodedRow) -> list[EncodedRow]:
    """prompt_ids, completion_ids, length and label (whether it is good) of each answer; a pair has two."""
    if row.get("desirable") is not None:
        return [answer(row["prompt_ids"], row["chosen_ids"], row["desirable"])]
    return [answer(row["prompt_ids"], row[name], name == "chosen_ids") for name in ("chosen_ids", "rejected_ids")]


def answer(prompt: list[int], completion: list[int], good: bool) -> EncodedRow:
    whole = len(prompt) + len(completion)
    return {"prompt_ids": prompt, "completion_ids": completion, "length": whole, "label": good}


def pad_answers(rows: list[EncodedRow], pad_token_id: int) -> ModelInputs:
    """TRL's own layout; each prompt also with the answer of the row before it in the micro-batch, from which the
    divergence from the reference is estimated (section 4.2 of the paper)."""
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

    others = [rows[-1], *rows[:-1]]
    paired = [row | {"KL_completion_ids": other["completion_ids"]} for row, other in zip(rows, others, strict=True)]
    found: ModelInputs = DataCollatorForUnpairedPreference(pad_token_id=pad_token_id)(paired)
    return found
