"""What a training records, what its callback tells and stops, and what the hardware decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.train import Train
from train.batches.order import RowSchedule
from train.finetune import finetune
from train.loop.callback import Watcher
from train.loop.checkpoints import COMPLETE
from train.loop.record import describe_course
from train.loop.trainer import stopped_step
from train.model.dtype import choose_dtype, cpu_flags, cpu_multiplies_bfloat16

pytestmark = pytest.mark.unit


def run_config(**train_section: Any) -> RunConfig:
    data = {"source": "sentiment"}
    return RunConfig.model_validate(
        {
            "name": "x",
            "task": "sequence-classification",
            "base": {"path": "b"},
            "data": data,
            "train": train_section or {"max_steps": 10},
            "gate": "g",
        }
    )


def test_the_record_counts_only_the_steps_of_this_process() -> None:
    history = [
        {"step": 1, "loss": 2.0, "epoch": 0.1},
        {"step": 2, "eval_loss": 1.5, "eval_runtime": 3},
        {"step": 2, "train_runtime": 9},
    ]
    state = SimpleNamespace(log_history=history, global_step=6, best_global_step=4, best_metric=1.5)
    trainer: Any = SimpleNamespace(state=state, args=SimpleNamespace(bf16=False, fp16=False))
    schedule = RowSchedule(numpy.array([10, 20] * 18), micro_batch=2, steps=6, padded=True, row_count=36)
    record = describe_course(trainer, schedule, Path("checkpoint-4"), seconds=9.0, step_seconds=6.0)
    assert record["losses"] == [{"step": 1, "loss": 2.0}] and record["validation"] == [{"step": 2, "eval_loss": 1.5}]
    assert record["resumed_from_step"] == 4 and record["best_step"] == 4 and record["dtype"] == "float32"
    assert record["real_tokens"] == 15 * 12 and record["tokens_per_second"] == pytest.approx(180 / 6.0), (
        "two steps of six rows of fifteen tokens"
    )
    assert record["padding_share"] == 0.25 and record["seconds"] == 9.0


def test_train_before_prepare_names_the_command(classifier: Callable[..., RunConfig]) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        finetune(classifier(), RunPaths.of("x"), SimpleNamespace(run_id=None, log_metrics=lambda *_: None))


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("fma avx2", "float32"), ("avx2 avx512f avx512_bf16", "float32"), ("amx_bf16", "bfloat16"), ("", "float32")],
)
def test_bfloat16_only_where_the_cpu_multiplies_it_fast(tmp_path: Path, flags: str, dtype: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx512_bf16 fake\nflags\t\t: fpu {flags}\n")
    assert choose_dtype("auto", lambda: cpu_multiplies_bfloat16(tmp_path / "cpuinfo")) == dtype


def test_what_is_asked_for_is_what_is_used() -> None:
    assert [choose_dtype("float32", lambda: True), choose_dtype("bfloat16", lambda: False)] == ["float32", "bfloat16"]


def test_a_machine_without_cpuinfo_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "none") == set()


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Any, list[tuple[dict[str, float], int]], SimpleNamespace]:
    logged: list[tuple[dict[str, float], int]] = []
    schedule = RowSchedule(numpy.full(20, 50), micro_batch=2, steps=10, padded=False, row_count=8)
    settings = Train(max_steps=10, eval_every_steps=2, early_stopping_patience=1)
    return (
        Watcher("x", settings, schedule, lambda figures, step: logged.append((figures, step))),
        logged,
        SimpleNamespace(output_dir=str(tmp_path)),
    )


def at(step: int, *history: dict[str, Any], **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        global_step=step,
        max_steps=10,
        log_history=list(history),
        is_world_process_zero=True,
        best_global_step=None,
        **more,
    )


def test_the_watcher_logs_numbers_by_step(watched: Any) -> None:
    callback, logged, arguments = watched
    callback.on_log(arguments, at(3), None, logs={"eval_loss": 1, "note": "words"})
    callback.on_log(arguments, at(4), None)
    assert logged == [({"eval_loss": 1.0}, 3), ({}, 4)]


def test_epochs_are_passes_over_the_rows_and_not_the_share_of_the_steps(watched: Any) -> None:
    callback, logged, arguments = watched
    callback.on_log(arguments, at(10), None, logs={"eval_loss": 1.0, "epoch": 1.0})
    assert logged[-1] == ({"eval_loss": 1.0, "epoch": 2.5}, 10), "10 steps of 2 rows over 8 rows"


def test_the_speed_of_a_step_counts_its_real_tokens_and_no_validation(watched: Any) -> None:
    callback, logged, arguments = watched
    seconds = iter([0.0, 4.0, 4.0, 104.0, 104.0, 106.0, 106.0])
    callback.clock.now = lambda: next(seconds)
    callback.clock.start()
    callback.on_step_end(arguments, at(1), None)
    callback.on_evaluate(
        arguments, at(1), SimpleNamespace(should_training_stop=False, should_save=False)
    )  # ends at 104
    callback.clock.start()
    callback.on_step_end(arguments, at(2), None)
    callback.on_log(arguments, at(2), None, logs={"loss": 0.5})
    assert logged[-1] == ({"loss": 0.5, "tokens_per_second": 100 / 2.0}, 2) and callback.clock.seconds == 6.0


def test_a_divergence_leaves_the_training_as_a_refusal(watched: Any) -> None:
    callback, logged, arguments = watched
    with pytest.raises(RefusedError, match="x diverged at step 3: grad_norm is nan"):
        callback.on_log(arguments, at(3, {"loss": 1.0, "grad_norm": float("nan")}), None, logs={"loss": 1.0})
    assert logged == [({"loss": 1.0}, 3)], "what was seen is told first"


@pytest.mark.parametrize(("last", "stops"), [(1.5, False), (2.0, True)])
def test_validation_that_stands_still_stops_the_training(watched: Any, last: float, stops: bool) -> None:
    callback, _, arguments = watched
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    callback.on_evaluate(arguments, at(4, {"eval_loss": 2.0}, {"eval_loss": last}), control)
    assert control.should_training_stop is stops and control.should_save, "the best one, or the one to end at"
    made = Path(arguments.output_dir, "checkpoint-4").exists()
    assert made is not stops, "the best one's folder is there before its parts are: transformers looks for it first"


def test_a_validation_that_is_not_the_best_is_not_saved_for_it(watched: Any) -> None:
    _, _, arguments = watched
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    history = [{"eval_loss": 2.0}, {"eval_loss": 1.0}, {"eval_loss": 1.5}]
    loose = Watcher("x", Train(max_steps=10), RowSchedule(numpy.full(20, 50), 2, 10, False, 8), lambda *_: None)
    loose.on_evaluate(arguments, at(6, *history), control)
    assert not control.should_save and not control.should_training_stop


def test_the_best_one_goes_by_the_goal_and_not_by_loss(tmp_path: Path) -> None:
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    schedule = RowSchedule(numpy.full(20, 50), 2, 10, False, 8)
    by_metric = Watcher("x", Train(max_steps=10), schedule, lambda *_: None, goal=("eval_entity_f1", True))
    history = [{"eval_loss": 1.0, "eval_entity_f1": 0.2}, {"eval_loss": 2.0, "eval_entity_f1": 0.3}]
    by_metric.on_evaluate(SimpleNamespace(output_dir=str(tmp_path)), at(6, *history), control)
    assert control.should_save


@pytest.mark.parametrize("is_first_process", [True, False])
def test_the_watcher_marks_a_checkpoint_when_it_is_whole(watched: Any, tmp_path: Path, is_first_process: bool) -> None:
    callback, _, arguments = watched
    (tmp_path / "checkpoint-5").mkdir()
    state = at(5)
    state.is_world_process_zero = is_first_process
    callback.on_save(arguments, state, None)
    assert (tmp_path / "checkpoint-5" / COMPLETE).exists() is is_first_process


@pytest.mark.parametrize(("step", "last"), [(9, False), (10, True)])
def test_the_last_step_is_validated_and_saved(watched: Any, step: int, last: bool) -> None:
    callback, _, arguments = watched
    control = SimpleNamespace(should_evaluate=False, should_save=False)
    callback.on_step_end(arguments, at(step), control)
    assert (control.should_evaluate, control.should_save) == (last, last)


@pytest.mark.parametrize(
    ("history", "step"),
    [([{"eval_loss": 1.0}, {"eval_loss": 2.0}], 4), ([{"eval_loss": 2.0}, {"eval_loss": 1.0}], None)],
)
def test_a_checkpoint_at_which_training_had_stopped_is_known_again(
    tmp_path: Path, history: list[dict[str, float]], step: int | None
) -> None:
    made = tmp_path / "checkpoint-4"
    made.mkdir()
    (made / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert stopped_step(made, 1) == step and stopped_step(None, 1) is None and stopped_step(made, None) is None
