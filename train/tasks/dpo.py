"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290): the chosen answer made likelier than the
rejected one, held to the model it began as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from train.model.adapter import use_loraplus_optimizer
from train.tasks.trl_arguments import model_arguments


def build_dpo_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL DPOTrainer over the tokens of the pairs; with an adapter the reference is the model with it off, with
    method full a second copy. `arguments`: of TrainingArguments."""
    from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]  # lazy exports

    class PairTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            """TRL would render and tokenize; prepare has."""
            return dataset

    preference: Any = config.train.preference  # resolved: no number of it is None
    trainer = PairTrainer(
        args=DPOConfig(
            **arguments,
            remove_unused_columns=False,
            beta=preference.beta,
            loss_type=[preference.loss],
            max_length=None,
        ),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        **model_arguments(config, base),
    )
    return use_loraplus_optimizer(trainer, config)
