"""One training: the task's trainer, its schedule of rows, its watchers and its record."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import Resumption, RunFacts, TrainingRecord
from infra.checkpoints.store import CheckpointStore
from infra.checkpoints.uploads import Uploads
from infra.files.atomic import new_directory, read_json, write_json
from infra.terminal import telling, waiting
from train.batches.collate import flatten
from train.batches.dataset import open_splits
from train.batches.order import RowSchedule, measure_lengths, order_rows, total_steps
from train.loop.arguments import schedule_arguments, trainer_arguments
from train.loop.checkpoints import RESUMED_FROM, last_checkpoint, remember, step_of
from train.loop.figures import goal_of, kind_of
from train.loop.memory import offload_activations
from train.loop.processes import agree, gather_processes, is_main, use_one_device
from train.loop.record import describe_course, describe_learning
from train.loop.sharding import shard_layers, whole_state
from train.loop.stopping import BY_LOSS, Goal, has_stalled
from train.loop.validation import use_whole_validation
from train.model.adapter import in_float32, save_trained
from train.tasks.grpo import Rewards

LAST_UPLOAD_SECONDS = 600.0  # of a training that failed: the checkpoints that it leaves are worth a while


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
    store: CheckpointStore | None = None,
) -> TrainingRecord:
    """Goes on from the last whole checkpoint. Of several processes the main one writes build/NAME/trained, and sends
    each checkpoint to the store, which it alone has."""
    checkpoint = agree(lambda: last_checkpoint(paths.checkpoints))
    if checkpoint:
        going_on: Resumption = {"step": step_of(checkpoint), "world_size": config.launch.world_size}
        facts["resumed"] = [*facts.get("resumed", []), going_on]
        if is_main():
            remember(paths.checkpoints, facts)
    uploads = Uploads(store, RESUMED_FROM) if store else None

    def keep_elsewhere(step: int, best_step: int | None) -> None:
        if uploads:
            uploads.add(paths.checkpoints / f"checkpoint-{step}", step, best_step, dict(facts))

    def note_first_loss() -> None:
        """What a text model's training must get below; a resumed one remembers it."""
        if validate and kind_of(config) == "text" and not checkpoint:
            facts["first_loss"] = validate.first_loss()
            if is_main():
                remember(paths.checkpoints, facts)

    with open_splits(paths, whole=config.task == "grpo") as (rows, validation):
        with waiting("the model is loaded"):
            arguments = trainer_arguments(config, paths, facts["micro_batch"])
            trainer = build_trainer(config, base, labels, rows, validation, rewards, **arguments)
            use_one_device(trainer)
            if config.launch.shards:
                shard_layers(trainer)
            change_model(trainer.model, config)
            if config.train.activation_offload:
                offload_activations(trainer)
            schedule = schedule_rows(trainer, config, checkpoint)
            validate = use_whole_validation(trainer, config, labels)
            callback = watch(trainer, config, schedule, tracker, show, note_first_loss, keep_elsewhere)
        started = time.perf_counter()
        try:
            with telling(callback.describe) if show and is_main() else nullcontext():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except Exception:
            if uploads:
                uploads.wait(LAST_UPLOAD_SECONDS)
            raise
        seconds = time.perf_counter() - started
    record: TrainingRecord = {
        **describe_course(trainer, schedule, checkpoint, seconds, callback.clock.seconds, goal_of(config)),
        **describe_learning(trainer, config, validate, facts),
        **facts,
        "processes": gather_processes(),
        "tracking_run_id": tracker.run_id if is_main() else None,
    }
    state = whole_state(trainer, config) if config.launch.shards else None  # all processes give their part
    if is_main():
        with new_directory(paths.trained) as partial:
            save_trained(trainer, config, base, partial, state)
            write_json(partial / "training.json", record)
    if uploads:
        uploads.stop()
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


def change_model(model: Any, config: RunConfig) -> None:
    """What any task's model is given alike. sft.py has chosen the attention of its own, for its layout hangs on it."""
    from train.layers.attention import set_attention
    from train.layers.compiled import compile_layers
    from train.layers.neftune import add_embedding_noise

    settings = config.train
    in_float32(model)  # TRL's trainers make their adapters themselves
    if settings.attention != "auto" and config.task != "causal-lm":
        set_attention(model, settings.attention)
    if settings.compile:
        compile_layers(model)
    if settings.neftune_alpha:
        add_embedding_noise(model if settings.method == "full" else model.get_base_model(), settings.neftune_alpha)


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
    steps = stopped_step(checkpoint, settings.early_stopping_patience, goal_of(config)) or total
    trainer.train_dataset = trainer.train_dataset.select(order[: steps * effective])
    trainer.eval_dataset = trainer.eval_dataset.select((-validation_lengths).argsort(kind="stable"))
    arguments.max_steps = steps
    micro_batch = arguments.per_device_train_batch_size if config.answers_a_prompt == 1 else 1
    return RowSchedule(lengths[order[: steps * effective]], micro_batch, steps, padded, len(lengths))


def stopped_step(checkpoint: Path | None, patience: int | None, goal: Goal = BY_LOSS) -> int | None:
    """The step of a checkpoint at which training had stopped early: nothing is left of it but the choice of the
    best."""
    state = read_json(checkpoint / "trainer_state.json") if checkpoint else None
    return step_of(checkpoint) if checkpoint and state and has_stalled(state["log_history"], patience, goal) else None


def watch(
    trainer: Any,
    config: RunConfig,
    schedule: RowSchedule,
    tracker: Tracker,
    show: bool = True,
    before_training: Callable[[], None] = lambda: None,
    after_checkpoint: Callable[[int, int | None], None] = lambda step, best_step: None,
) -> Any:
    from transformers.trainer_callback import PrinterCallback

    from train.loop.callback import Watcher

    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which belongs to the command line
    callback = Watcher(
        config.name,
        config.train,
        schedule,
        tracker.log_metrics,
        show,
        goal_of(config),
        before_training,
        after_checkpoint,
    )
    trainer.add_callback(callback)
    return callback
