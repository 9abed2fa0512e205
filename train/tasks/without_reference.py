"""Preference tuning that holds the model to no reference: ORPO (Hong et al. 2024, arXiv:2403.07691), CPO (Xu et al.
2024, arXiv:2401.08417) and SimPO (Meng et al. 2024, arXiv:2405.14734). One forward pass where DPO has two."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from train.batches.collate import IGNORED, ModelInputs
from train.batches.dataset import EncodedRow
from train.model.adapter import use_loraplus_optimizer
from train.tasks.trl_arguments import model_arguments, padding_of


def build_trainer_without_reference(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any
) -> Any:
    """TRL's ORPOTrainer, or its CPOTrainer for CPO and SimPO. `arguments`: of TrainingArguments.

    Both would render and tokenize text (trl/experimental/orpo/orpo_trainer.py, 1.16.0): they are made over no rows, and
    are given ours afterwards.
    """
    from datasets import Dataset

    empty, model = Dataset.from_dict({"prompt": []}), model_arguments(config, base)
    padding = padding_of(model["processing_class"])
    trainer = trainer_class(config)(
        args=method_arguments(config, **arguments, remove_unused_columns=False, max_length=config.data.max_tokens),
        data_collator=partial(pad_pairs, pad_token_id=padding),
        train_dataset=empty,
        eval_dataset=empty,
        **model,
    )
    trainer.use_dpo_data_collator = True  # ours makes the same columns; else it warns at every validation
    trainer.padding_value = padding  # what ORPOTrainer fills up the shorter half of a batch with
    trainer.train_dataset, trainer.eval_dataset = train_rows, validation_rows
    return use_loraplus_optimizer(trainer, config)


def trainer_class(config: RunConfig) -> Any:
    if config.train.preference.method == "orpo":
        from trl.experimental.orpo import ORPOTrainer

        return ORPOTrainer
    from trl.experimental.cpo import CPOTrainer

    return CPOTrainer


def method_arguments(config: RunConfig, **arguments: Any) -> Any:
    preference: Any = config.train.preference  # resolved: no number of it is None
    if preference.method == "orpo":
        from trl.experimental.orpo import ORPOConfig

        return ORPOConfig(**arguments, beta=preference.beta)
    from trl.experimental.cpo import CPOConfig

    return CPOConfig(
        **arguments,
        beta=preference.beta,
        loss_type="simpo" if preference.method == "simpo" else preference.loss,
        simpo_gamma=preference.margin or 0.0,
        cpo_alpha=preference.chosen_loss_weight,
    )


def pad_pairs(rows: list[EncodedRow], pad_token_id: int) -> ModelInputs:
    """For each answer (rows, longest): prompt and answer padded on the right, the labels on the answer alone."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    found: ModelInputs = {}
    for name in ("chosen", "rejected"):
        asked = [torch.tensor(row["prompt_ids"]) for row in rows]
        whole = [torch.cat([prompt, torch.tensor(row[f"{name}_ids"])]) for prompt, row in zip(asked, rows, strict=True)]
        labels = [torch.cat([torch.full_like(p, IGNORED), w[len(p) :]]) for p, w in zip(asked, whole, strict=True)]
        found |= {
            f"{name}_input_ids": pad_sequence(whole, batch_first=True, padding_value=pad_token_id),
            f"{name}_attention_mask": pad_sequence([torch.ones_like(row) for row in whole], batch_first=True),
            f"{name}_labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }
    return found
