"""LoRA training with seeds, validation, the best checkpoint, and resumption after a kill."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any, Protocol

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.schema import RunConfig
from train.atomic import key_of, new_directory, read_json, write_json, write_text
from train.base import make_base
from train.hardware import choose_dtype
from train.prepare import read_card, read_split

COMPLETE = "complete"


class Tracker(Protocol):
    """What training asks of infra.tracking."""

    @property
    def run_id(self) -> str | None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


def train(config: RunConfig, paths: RunPaths, tracker: Tracker) -> dict[str, Any]:
    """The training record, also adapter/training.json. Raises InputError before `prepare`.

    Killed, it goes on from the last complete checkpoint; a second call with the same config and data does nothing.
    """
    base, card = make_base(config), read_card(paths)
    key = key_of(config.task, config.train.model_dump(), read_manifest(base).digest, card["fingerprint"])
    finished = read_json(paths.adapter / "training.json")
    if finished and finished.get("key") == key:
        return finished
    checkpoint = last_checkpoint(paths.checkpoints, key)
    trainer = build_trainer(config, paths, base, card["labels"])
    watch(trainer, config, tracker)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    record = training_record(trainer, time.perf_counter() - started, checkpoint) | {"tracking_run_id": tracker.run_id, "key": key}
    with new_directory(paths.adapter) as partial:
        save_adapter(trainer, base, partial)
        write_json(partial / "training.json", record)
    shutil.rmtree(paths.checkpoints, ignore_errors=True)
    return record


def last_checkpoint(folder: Path, key: str) -> Path | None:
    """The newest complete checkpoint of this very config and data; everything else is thrown away."""
    marker = folder / "key"
    if not marker.exists() or marker.read_text(encoding="utf8") != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_text(marker, key)
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
    for path in found:
        if not (path / COMPLETE).exists():
            shutil.rmtree(path)
    return max((path for path in found if path.exists()), key=found.index, default=None)


def build_trainer(config: RunConfig, paths: RunPaths, base: Path, labels: list[str]) -> Any:
    from transformers import set_seed

    from train.classifier import build_classifier_trainer
    from train.sft import build_sft_trainer

    rows, validation = read_split(paths, "train"), read_split(paths, "validation")
    arguments = trainer_arguments(config, paths, len(rows))
    set_seed(config.train.seed)  # before the model is made: the classifier's head and LoRA's A are random
    if config.task == "sequence-classification":
        return build_classifier_trainer(config, base, arguments, rows, validation, labels)
    return build_sft_trainer(config, base, arguments, rows, validation)


def trainer_arguments(config: RunConfig, paths: RunPaths, row_count: int) -> dict[str, Any]:
    """What both trainers are told."""
    import torch

    settings, steps = config.train, total_steps(config, row_count)
    every = min(settings.eval_every_steps, steps)
    return {
        "output_dir": str(paths.checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": int(settings.warmup_ratio * steps),  # the first of them has rate 0: a short training cannot spare it
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": choose_dtype(settings.dtype) == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "train_sampling_strategy": "group_by_length",  # padding is a quarter of the work otherwise
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 3,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def total_steps(config: RunConfig, row_count: int) -> int:
    """Optimizer steps of the whole training."""
    per_epoch = math.ceil(math.ceil(row_count / config.train.batch_size) / config.train.gradient_accumulation_steps)
    return config.train.max_steps or max(1, math.ceil(per_epoch * (config.train.epochs or 0)))


def watch(trainer: Any, config: RunConfig, tracker: Tracker) -> None:
    from transformers.trainer_callback import PrinterCallback

    from train.progress import watcher

    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which belongs to the command line
    trainer.add_callback(watcher(config.name, tracker.log_metrics, COMPLETE))


def training_record(trainer: Any, seconds: float, checkpoint: Path | None) -> dict[str, Any]:
    """Losses by step, and the speed of this process (a resumed run's earlier seconds are not in it)."""
    state = trainer.state
    first = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    tokens = sum(len(trainer.train_dataset[index]["input_ids"]) for index in range(len(trainer.train_dataset))) / len(trainer.train_dataset)
    trained = (state.global_step - first) * trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    wanted = ("step", "eval_loss", "eval_accuracy")
    return {
        "losses": [{"step": line["step"], "loss": line["loss"]} for line in state.log_history if "loss" in line],
        "validation": [{key: value for key, value in line.items() if key in wanted} for line in state.log_history if "eval_loss" in line],
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "best_validation_loss": state.best_metric,
        "resumed_from_step": first or None,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens * trained / seconds, 1),
        "dtype": "bfloat16" if trainer.args.bf16 else "float32",
    }


def save_adapter(trainer: Any, base: Path, target: Path) -> None:
    """The best adapter as safetensors, naming its base by a path inside the checkout."""
    model = trainer.model
    model.peft_config["default"].base_model_name_or_path = base.as_posix()
    model.save_pretrained(target, save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)
