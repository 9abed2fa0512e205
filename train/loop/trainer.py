"""One training: the task's trainer, its schedule of rows, its watchers and its record."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import Course, RunFacts, TrainingRecord, ValidationPoint
from infra.files.atomic import new_directory, read_json, write_json
from infra.terminal import telling, waiting
from train.batches.collate import flatten
from train.batches.dataset import open_splits
from train.batches.order import RowSchedule, measure_lengths, order_rows, total_steps
from train.loop.arguments import schedule_arguments, trainer_arguments
from train.loop.checkpoints import last_checkpoint, step_of
from train.loop.processes import gather_processes, is_main
from train.loop.stopping import has_stalled
from train.model.adapter import save_trained
from train.tasks.grpo import Rewards


class Tracker(Protocol):
    """What training asks of infra.mlflow.tracking."""

    @property
    def run_id(self) -> str | None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


def train_once(
    config: RunConfig,
    paths: RunPaths,
    tracker: Tracker,
    base: Path,
    labels: list[str],
    facts: RunFacts,
    show: bool = True,
    rewards: Rewards | None = None,
) -> TrainingRecord:
    """Goes on from the last whole checkpoint. Of several processes the main one writes build/NAME/trained."""
    checkpoint = last_checkpoint(paths.checkpoints)
    with open_splits(paths, whole=config.task == "grpo") as (rows, validation):
        with waiting("the model is loaded and the rows are encoded"):
            arguments = trainer_arguments(config, paths, facts["micro_batch"])
            trainer = build_trainer(config, base, labels, rows, validation, rewards, **arguments)
            schedule = schedule_rows(trainer, config, checkpoint)
            callback = watch(trainer, config, schedule, tracker, show)
        started = time.perf_counter()
        with telling(callback.describe) if show and is_main() else nullcontext():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - started
    record: TrainingRecord = {
        **describe_course(trainer, schedule, checkpoint, seconds, callback.clock.seconds),
        **facts,
        "processes": gather_processes(),
        "tracking_run_id": tracker.run_id if is_main() else None,
    }
    if is_main():
        with new_directory(paths.trained) as partial:
            save_trained(trainer, config, base, partial)
            write_json(partial / "training.json", record)
    return record


def build_trainer(
    config: RunConfig,
    base: Path,
    labels: list[str],
    rows: Any,
    validation: Any,
    rewards: Rewards | None = None,
    **arguments: Any,
) -> Any:
    """`rewards`: for task grpo, what its answers are rewarded for."""
    from transformers import set_seed

    from train.tasks.classifier import build_classifier_trainer
    from train.tasks.grpo import build_grpo_trainer
    from train.tasks.preference import build_preference_trainer
    from train.tasks.reward import build_reward_trainer
    from train.tasks.sft import build_sft_trainer
    from train.tasks.tagger import build_tagger_trainer

    set_seed(config.train.seed)  # before the model is made: the classifier's head and LoRA's A are random
    if config.task == "sequence-classification":
        return build_classifier_trainer(config, base, rows, validation, labels, **arguments)
    if config.task == "token-classification":
        return build_tagger_trainer(config, base, rows, validation, labels, **arguments)
    if config.task == "dpo":
        return build_preference_trainer(config, base, rows, validation, **arguments)
    if config.task == "reward":
        return build_reward_trainer(config, base, rows, validation, **arguments)
    if config.task == "grpo":
        assert rewards is not None, "tunegate.py hands them over"
        return build_grpo_trainer(config, base, rows, validation, rewards, **arguments)
    return build_sft_trainer(config, base, rows, validation, **arguments)


def schedule_rows(trainer: Any, config: RunConfig, checkpoint: Path | None) -> RowSchedule:
    """Lays out the whole training: one pass over all steps' rows, and the keys that hang on their number."""
    settings, arguments = config.train, trainer.args
    if config.task != "causal-lm":
        # transformers takes every forward with **kwargs for one that divides by all micro-batches' items; BERT's heads
        # do not, and their gradients would grow with gradient_accumulation_steps (5.17.0, trainer.py:training_step).
        trainer.model_accepts_loss_kwargs = False
    lengths, validation_lengths = measure_lengths(trainer.train_dataset), measure_lengths(trainer.eval_dataset)
    total = total_steps(settings, len(lengths) * config.answers_a_prompt)
    padded = getattr(trainer.data_collator, "func", None) is not flatten
    effective = settings.batch_size * settings.gradient_accumulation_steps // config.answers_a_prompt
    order = order_rows(lengths, total, effective, settings.seed, grouped=padded and settings.length_grouping)
    for name, value in schedule_arguments(settings, total).items():
        setattr(arguments, name, value)
    steps = stopped_step(checkpoint, settings.early_stopping_patience) or total
    trainer.train_dataset = trainer.train_dataset.select(order[: steps * effective])
    trainer.eval_dataset = trainer.eval_dataset.select((-validation_lengths).argsort(kind="stable"))
    arguments.max_steps = steps
    micro_batch = arguments.per_device_train_batch_size if config.answers_a_prompt == 1 else 1
    return RowSchedule(lengths[order[: steps * effective]], micro_batch, steps, padded, len(lengths))


def stopped_step(checkpoint: Path | None, patience: int | None) -> int | None:
    """The step of a checkpoint at which training had stopped early: nothing is left of it but the choice of the
    best."""
    state = read_json(checkpoint / "trainer_state.json") if checkpoint else None
    return step_of(checkpoint) if checkpoint and state and has_stalled(state["log_history"], patience) else None


def watch(trainer: Any, config: RunConfig, schedule: RowSchedule, tracker: Tracker, show: bool = True) -> Any:
    from transformers.trainer_callback import PrinterCallback

    from train.loop.callback import watcher

    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which belongs to the command line
    callback = watcher(config.name, config.train, schedule, tracker.log_metrics, show)
    trainer.add_callback(callback)
    return callback


def describe_course(
    trainer: Any, schedule: RowSchedule, checkpoint: Path | None, seconds: float, step_seconds: float
) -> Course:
    """`seconds` of the whole training and `step_seconds` of its steps are those of this process: a resumed run's
    earlier ones are not in them."""
    state = trainer.state
    first = step_of(checkpoint) if checkpoint else 0
    real_tokens = schedule.real_tokens(first, state.global_step)
    return {
        "losses": [{"step": line["step"], "loss": line["loss"]} for line in state.log_history if "loss" in line],
        "validation": [validation_point(line) for line in state.log_history if "eval_loss" in line],
        "steps": state.global_step,
        "epochs": schedule.epochs(state.global_step),
        "best_step": state.best_global_step,
        "best_validation_loss": state.best_metric,
        "resumed_from_step": first or None,
        "seconds": round(seconds, 2),
        "real_tokens": real_tokens,
        "padding_share": round(schedule.padding_share, 4),
        "tokens_per_second": round(real_tokens / step_seconds, 1) if step_seconds else None,
        "dtype": "bfloat16" if trainer.args.bf16 else "float32",
    }


def validation_point(line: dict[str, float]) -> ValidationPoint:
    """Of one line of a trainer's log."""
    found: ValidationPoint = {"eval_loss": line["eval_loss"], "step": int(line["step"])}
    return found | {"eval_accuracy": line["eval_accuracy"]} if "eval_accuracy" in line else found
