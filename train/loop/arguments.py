"""What every trainer is told: the run's keys in the words of transformers' TrainingArguments."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.train import BITSANDBYTES, Train
from train.loop.figures import goal_of
from train.loop.processes import launch_arguments
from train.model.dtype import choose_dtype

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}
# What to set instead where there is no GPU.
ON_CPU = {
    "train.method": "lora",
    "train.lora.initialization": "default",
    "train.optimizer": "adamw",
    "train.dtype": "auto",
    "train.attention": "auto",
    "train.activation_offload": "false",
    "train.compile": "false",
}
# `constant` of transformers has no warm-up, and would pass over warmup_ratio in silence.
SCHEDULES = {"constant": "constant_with_warmup"}


def trainer_arguments(config: RunConfig, paths: RunPaths, micro_batch: int) -> dict[str, Any]:
    """For TrainingArguments and what is made of it. Steps come later (`schedule_arguments`): they hang on the encoded
    rows.

    Rows come in the order of train/batches/order.py, so the trainer only takes them one after the other.
    """
    import torch

    settings, (metric, more_is_better) = config.train, goal_of(config)
    on_gpu, dtype = torch.cuda.is_available(), choose_dtype(config.train.dtype)
    refuse_without_gpu(settings, on_gpu, find_spec("bitsandbytes") is not None)
    return {
        "output_dir": str(paths.checkpoints),
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": micro_batch,
        "gradient_accumulation_steps": settings.batch_size * settings.gradient_accumulation_steps // micro_batch,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if settings.gradient_checkpointing else None,
        "learning_rate": settings.learning_rate,
        "optim": OPTIMIZERS[settings.optimizer],
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "use_cpu": not on_gpu,
        "use_liger_kernel": choose_liger(settings.liger, on_gpu, find_spec("liger_kernel") is not None),
        # the head's loss is that of train/layers/linear_cross_entropy.py
        "liger_kernel_config": {"fused_linear_cross_entropy": False},
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide from train.loop.stopping what it looks for
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": more_is_better,
        "report_to": "none",
        "disable_tqdm": True,
    } | launch_arguments(config)


def schedule_arguments(settings: Train, steps: int) -> dict[str, Any]:
    """What hangs on the number of optimizer steps. A validation that is the best one is saved too, whatever
    `save_steps` (train/loop/callback.py)."""
    return {
        "max_steps": steps,
        "eval_steps": settings.eval_interval(steps),
        "save_steps": settings.save_interval(steps),
        "lr_scheduler_type": SCHEDULES.get(settings.schedule, settings.schedule),
        "lr_scheduler_kwargs": scheduler_options(settings, steps),
        # the first of them has rate 0: a short training cannot spare it
        "warmup_steps": int(settings.warmup_ratio * steps),
    }


def scheduler_options(settings: Train, steps: int) -> dict[str, float | None]:
    if settings.schedule == "cosine_with_min_lr":
        return {"min_lr_rate": settings.min_learning_rate_ratio}
    if settings.schedule == "warmup_stable_decay":
        return {
            "min_lr_ratio": settings.min_learning_rate_ratio,
            "num_decay_steps": max(1, int((settings.decay_ratio or 0) * steps)),
        }
    return {}


def choose_liger(setting: str, on_gpu: bool, installed: bool) -> bool:
    """Raises InputError where the kernels are asked for and cannot be used."""
    if setting == "always" and not (on_gpu and installed):
        found = "no GPU" if not on_gpu else "liger-kernel is not installed"
        raise InputError(f"train.liger: found {found}, expected both with always", hint="--set train.liger=auto")
    return setting != "never" and on_gpu and installed


def refuse_without_gpu(settings: Train, on_gpu: bool, has_bitsandbytes: bool) -> None:
    """Raises InputError where the machine that trains lacks what a key needs; `check` knows it of this one alone."""
    wanted = settings.needs_gpu
    if wanted and not on_gpu:
        instead = (f"--set {key}={ON_CPU[key]}" for key, _, _ in (one.partition(" ") for one in wanted))
        raise InputError(f"{' and '.join(wanted)}: found no GPU, expected one", hint=" ".join(instead))
    if settings.optimizer in BITSANDBYTES and not has_bitsandbytes:
        raise InputError(
            f"train.optimizer {settings.optimizer}: bitsandbytes is not installed",
            hint="pip install bitsandbytes, or --set train.optimizer=adamw",
        )
