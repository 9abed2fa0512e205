"""Preference tuning of a GPT-type model, by the method that the run names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from train.tasks.dpo import build_dpo_trainer
from train.tasks.kto import build_kto_trainer
from train.tasks.without_reference import build_trainer_without_reference


def build_preference_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any
) -> Any:
    """A TRL trainer over the tokens of prompts and answers. `arguments`: of TrainingArguments."""
    method = config.train.preference.method
    build = {"dpo": build_dpo_trainer, "kto": build_kto_trainer}.get(method, build_trainer_without_reference)
    return build(config, base, train_rows, validation_rows, **arguments)
