"""The run's keys in the trainer's words; what the machine decides; what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.train import Train
from train.loop.arguments import (
    OPTIMIZERS,
    choose_liger,
    refuse_without_gpu,
    schedule_arguments,
    trainer_arguments,
)

pytestmark = pytest.mark.unit


def run_config(**section: Any) -> RunConfig:
    data = {"source": "sentiment"}
    return RunConfig.model_validate(
        {
            "name": "x",
            "task": "sequence-classification",
            "base": {"path": "b"},
            "data": data,
            "train": section or {"max_steps": 10},
            "gate": "g",
        }
    )


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(8, 3), (4, 6), (1, 24)])
def test_the_effective_batch_stays_however_small_the_micro_batch(micro_batch: int, accumulation: int) -> None:
    arguments = trainer_arguments(
        run_config(max_steps=1, batch_size=8, gradient_accumulation_steps=3), RunPaths.of("x"), micro_batch
    )
    assert (
        arguments["per_device_train_batch_size"] == micro_batch
        and arguments["gradient_accumulation_steps"] == accumulation
    )


def test_the_trainer_hides_no_loss_and_reports_to_none_but_us() -> None:
    arguments = trainer_arguments(run_config(), RunPaths.of("x"), 8)
    assert (
        not arguments["logging_nan_inf_filter"]
        and arguments["report_to"] == "none"
        and arguments["seed"] == arguments["data_seed"] == 17
    )
    assert arguments["train_sampling_strategy"] == "sequential", "the order is ours"


def test_a_short_training_is_still_validated_once() -> None:
    arguments = schedule_arguments(Train(max_steps=3, eval_every_steps=100), 3)
    assert arguments["eval_steps"] == arguments["save_steps"] == 3


@pytest.mark.parametrize("steps", [1, 5, 12, 30, 240, 100_000])
def test_a_training_is_validated_about_twelve_times_where_the_yaml_says_nothing(steps: int) -> None:
    every = schedule_arguments(Train(max_steps=steps), steps)["eval_steps"]
    assert min(steps, 12) <= -(-steps // every) <= 24


def test_checkpoints_have_a_schedule_of_their_own() -> None:
    arguments = schedule_arguments(Train(max_steps=100, eval_every_steps=10, save_every_steps=35), 100)
    assert (arguments["eval_steps"], arguments["save_steps"]) == (10, 35)


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ({"optimizer": "adamw"}, "adamw_torch_fused"),
        ({"optimizer": "adamw_8bit"}, "adamw_bnb_8bit"),
        ({"optimizer": "paged_adamw"}, "paged_adamw_32bit"),
        ({"optimizer": "paged_adamw_8bit"}, "paged_adamw_8bit"),
        ({"optimizer": "adafactor"}, "adafactor"),
    ],
)
def test_an_optimizer_is_one_that_transformers_knows(section: dict[str, Any], kind: str) -> None:
    from transformers.training_args import OptimizerNames

    assert OPTIMIZERS[section["optimizer"]] == OptimizerNames(kind).value


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({"optimizer": "adamw_8bit"}, "train.optimizer adamw_8bit: found no GPU"),
        ({"dtype": "float16"}, "train.dtype float16: found no GPU"),
        ({"method": "qlora"}, "train.method qlora: found no GPU"),
        ({"lora": {"initialization": "loftq"}}, "train.lora.initialization loftq: found no GPU"),
        (
            {"activation_offload": True, "gradient_checkpointing": True, "compile": True},
            "train.activation_offload true and train.compile true: found no GPU",
        ),
        (
            {"attention": "flash_attention_2", "optimizer": "paged_adamw"},
            "train.optimizer paged_adamw and train.attention flash_attention_2",
        ),
    ],
)
def test_what_only_a_gpu_does_is_refused_without_one(section: dict[str, Any], found: str) -> None:
    settings = Train(max_steps=1, **section)
    with pytest.raises(InputError, match=found) as error:
        refuse_without_gpu(settings, on_gpu=False, has_bitsandbytes=True)
    instead = [word.split("=") for word in str(error.value.hint).replace("--set train.", "").split()]
    changed: dict[str, Any] = {"max_steps": 1} | section
    for key, value in instead:
        changed["lora" if "." in key else key] = {} if "." in key else value
    refuse_without_gpu(Train(**changed), on_gpu=False, has_bitsandbytes=True)  # what the hint says helps
    refuse_without_gpu(settings, on_gpu=True, has_bitsandbytes=True)


def test_an_optimizer_of_bitsandbytes_is_refused_without_it() -> None:
    with pytest.raises(InputError, match="bitsandbytes is not installed"):
        refuse_without_gpu(Train(max_steps=1, optimizer="adamw_8bit"), on_gpu=True, has_bitsandbytes=False)
    refuse_without_gpu(Train(max_steps=1), on_gpu=False, has_bitsandbytes=False)


@pytest.mark.parametrize(
    ("section", "kind", "options"),
    [
        ({"schedule": "linear"}, "linear", {}),
        ({"schedule": "constant"}, "constant_with_warmup", {}),
        (
            {"schedule": "cosine_with_min_lr", "min_learning_rate_ratio": 0.1},
            "cosine_with_min_lr",
            {"min_lr_rate": 0.1},
        ),
        (
            {"schedule": "warmup_stable_decay", "min_learning_rate_ratio": 0.1, "decay_ratio": 0.25},
            "warmup_stable_decay",
            {"min_lr_ratio": 0.1, "num_decay_steps": 50},
        ),
    ],
)
def test_every_schedule_warms_up_and_is_one_that_transformers_makes(
    section: dict[str, Any], kind: str, options: dict[str, Any]
) -> None:
    import torch
    from transformers import get_scheduler

    arguments = schedule_arguments(Train.model_validate({"max_steps": 200, "warmup_ratio": 0.1} | section), 200)
    assert (arguments["lr_scheduler_type"], arguments["lr_scheduler_kwargs"], arguments["warmup_steps"]) == (
        kind,
        options,
        20,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(kind, optimizer, 20, 200, scheduler_specific_kwargs=options)
    rates = []
    for _ in range(200):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] <= 0.1 and max(rates) == pytest.approx(1.0) and rates[20] == pytest.approx(1.0)
    assert rates[-1] >= 0.1 - 1e-9 if options or kind == "constant_with_warmup" else rates[-1] < 0.01


@pytest.mark.parametrize(
    ("setting", "on_gpu", "installed", "used"),
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("never", True, True, False),
        ("always", True, True, True),
    ],
)
def test_liger_kernels_where_they_are_to_be_had(setting: str, on_gpu: bool, installed: bool, used: bool) -> None:
    assert choose_liger(setting, on_gpu, installed) is used


@pytest.mark.parametrize(("on_gpu", "installed", "found"), [(False, True, "no GPU"), (True, False, "not installed")])
def test_liger_asked_for_and_absent_is_refused_with_the_reason(on_gpu: bool, installed: bool, found: str) -> None:
    with pytest.raises(InputError, match=found):
        choose_liger("always", on_gpu, installed)
