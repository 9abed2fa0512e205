"""How long training is, where it resumes, what is recorded, and what the hardware decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.paths import RunPaths
from configs.schema import RunConfig
from train.hardware import choose_dtype, cpu_flags
from train.lora import COMPLETE, last_checkpoint, total_steps, train, trainer_arguments, training_record
from train.progress import watcher

pytestmark = pytest.mark.unit


def run_config(**train_section: Any) -> RunConfig:
    data = {"source": "sentiment"}
    return RunConfig.model_validate(
        {"name": "x", "task": "sequence-classification", "base": {"path": "b"}, "data": data, "train": train_section or {"max_steps": 10}, "gate": "g"}
    )


@pytest.mark.parametrize(
    ("section", "rows", "steps"),
    [
        ({"max_steps": 7}, 1000, 7),
        ({"epochs": 1, "batch_size": 8}, 16, 2),
        ({"epochs": 1, "batch_size": 8}, 17, 3),
        ({"epochs": 2.5, "batch_size": 10}, 40, 10),
        ({"epochs": 1, "batch_size": 4, "gradient_accumulation_steps": 3}, 25, 3),
        ({"epochs": 0.01, "batch_size": 8}, 8, 1),
    ],
)
def test_steps_of_a_training(section: dict[str, Any], rows: int, steps: int) -> None:
    assert total_steps(run_config(**section), rows) == steps


@given(st.floats(0.1, 20), st.integers(1, 64), st.integers(1, 8), st.integers(1, 5000))
def test_steps_cover_every_epoch_and_not_one_batch_more(epochs: float, batch: int, accumulation: int, rows: int) -> None:
    steps = total_steps(run_config(epochs=epochs, batch_size=batch, gradient_accumulation_steps=accumulation), rows)
    one_epoch = total_steps(run_config(epochs=1, batch_size=batch, gradient_accumulation_steps=accumulation), rows)
    assert one_epoch * batch * accumulation >= rows
    assert one_epoch * epochs <= steps < one_epoch * epochs + 1


def test_a_short_training_is_still_validated_once(checkout: Path) -> None:
    arguments = trainer_arguments(run_config(max_steps=3, eval_every_steps=100), RunPaths.of("x"), 50)
    assert arguments["eval_steps"] == arguments["save_steps"] == 3
    assert arguments["report_to"] == "none" and arguments["seed"] == arguments["data_seed"] == 17


def checkpoint(folder: Path, step: int, complete: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    if complete:
        (made / COMPLETE).touch()
    return made


def test_the_newest_complete_checkpoint_is_taken_and_a_torn_one_thrown_away(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "c", "key") is None
    checkpoint(tmp_path / "c", 8)
    newest, torn = checkpoint(tmp_path / "c", 16), checkpoint(tmp_path / "c", 24, complete=False)
    assert last_checkpoint(tmp_path / "c", "key") == newest, "by number, not by name: 16 is after 8"
    assert not torn.exists()


def test_checkpoints_of_another_config_are_thrown_away(tmp_path: Path) -> None:
    last_checkpoint(tmp_path / "c", "one")
    old = checkpoint(tmp_path / "c", 8)
    assert last_checkpoint(tmp_path / "c", "two") is None
    assert not old.exists()


def test_the_record_counts_only_the_steps_of_this_process() -> None:
    history = [{"step": 1, "loss": 2.0, "epoch": 0.1}, {"step": 2, "eval_loss": 1.5, "eval_runtime": 3}, {"step": 2, "train_runtime": 9}]
    state = SimpleNamespace(log_history=history, global_step=6, best_global_step=4, best_metric=1.5)
    arguments = SimpleNamespace(per_device_train_batch_size=2, gradient_accumulation_steps=3, bf16=False)
    trainer: Any = SimpleNamespace(state=state, args=arguments, train_dataset=[{"input_ids": [0] * 10}, {"input_ids": [0] * 20}])
    record = training_record(trainer, 9.0, Path("checkpoint-4"))
    assert record["losses"] == [{"step": 1, "loss": 2.0}] and record["validation"] == [{"step": 2, "eval_loss": 1.5}]
    assert record["resumed_from_step"] == 4 and record["best_step"] == 4 and record["dtype"] == "float32"
    assert record["tokens_per_second"] == pytest.approx(15 * 2 * 6 / 9.0), "two steps of six rows of fifteen tokens"


def test_train_before_prepare_names_the_command(classifier: Callable[..., RunConfig]) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        train(classifier(), RunPaths.of("x"), SimpleNamespace(run_id=None, log_metrics=lambda *_: None))


@pytest.mark.parametrize(("flags", "dtype"), [("fma avx2", "float32"), ("avx2 avx512f avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("", "float32")])
def test_bfloat16_only_where_the_cpu_multiplies_it(tmp_path: Path, flags: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx512_bf16 fake\nflags\t\t: fpu {flags}\n")
    assert choose_dtype("auto", tmp_path / "cpuinfo") == dtype


def test_what_is_asked_for_is_what_is_used(tmp_path: Path) -> None:
    assert [choose_dtype(setting, tmp_path / "none") for setting in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_a_machine_without_cpuinfo_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "none") == set()


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Any, list[tuple[dict[str, float], int]], SimpleNamespace]:
    logged: list[tuple[dict[str, float], int]] = []
    return watcher("x", lambda figures, step: logged.append((figures, step)), COMPLETE), logged, SimpleNamespace(output_dir=str(tmp_path))


def test_the_watcher_logs_numbers_by_step(watched: Any) -> None:
    callback, logged, arguments = watched
    callback.on_log(arguments, SimpleNamespace(global_step=3), None, logs={"loss": 1, "note": "words"})
    callback.on_log(arguments, SimpleNamespace(global_step=4), None)
    assert logged == [({"loss": 1.0}, 3), ({}, 4)]


def test_the_watcher_marks_a_checkpoint_when_it_is_whole(watched: Any, tmp_path: Path) -> None:
    callback, _, arguments = watched
    torn = checkpoint(tmp_path, 5, complete=False)
    callback.on_save(arguments, SimpleNamespace(global_step=5), None)
    assert (torn / COMPLETE).exists()


@pytest.mark.parametrize(("step", "last"), [(9, False), (10, True)])
def test_the_last_step_is_validated_and_saved(watched: Any, step: int, last: bool) -> None:
    callback, _, arguments = watched
    control = SimpleNamespace(should_evaluate=False, should_save=False)
    callback.on_step_end(arguments, SimpleNamespace(global_step=step, max_steps=10), control)
    assert (control.should_evaluate, control.should_save) == (last, last)
