"""The trainer's callback: bar on stderr, metrics to the tracker, the mark of a whole checkpoint, and the word to
stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from configs.training.train import Train
from train.batches.order import RowSchedule
from train.loop.checkpoints import complete_checkpoint
from train.loop.processes import is_main, wait_for_others
from train.loop.stopping import BY_LOSS, DivergedError, Goal, find_divergence, has_stalled, is_new_best


class Clock:
    """Seconds of training alone: validations and checkpoints are left out."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds = 0.0
        self.mark = now()

    def start(self) -> None:
        self.mark = self.now()

    def stop(self) -> float:
        """Counts the time since the last start or stop, and returns it."""
        passed = self.now() - self.mark
        self.seconds += passed
        self.start()
        return passed


class Watcher(TrainerCallback):
    """`clock` says how long the steps took. `before_training` is called once the model stands where it trains,
    `after_checkpoint` in the main process with the step of each whole checkpoint and of the best one.

    Raises DivergedError out of the training when it diverges, before that step's checkpoint is written.
    """

    def __init__(
        self,
        name: str,
        settings: Train,
        schedule: RowSchedule,
        log_metrics: Callable[[dict[str, float], int], None],
        show: bool = True,
        goal: Goal = BY_LOSS,
        before_training: Callable[[], None] = lambda: None,
        after_checkpoint: Callable[[int, int | None], None] = lambda step, best_step: None,
    ) -> None:
        self.name, self.settings, self.schedule, self.goal = name, settings, schedule, goal
        self.log_metrics, self.before_training, self.after_checkpoint = log_metrics, before_training, after_checkpoint
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), disable=not (show and is_main()))
        self.bar = self.progress.add_task(f"train {self.name}", speed="")
        self.clock = Clock()
        self.step_seconds = 0.0

    def describe(self) -> str:
        """For those who see no bar."""
        bar = self.progress.tasks[0]
        return ", ".join(
            filter(None, [bar.description, f"step {bar.completed:.0f} of {bar.total or 0:.0f}", bar.fields["speed"]])
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(self.bar, total=state.max_steps, completed=state.global_step)
        self.progress.start()
        self.before_training()
        self.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step_seconds = self.clock.stop()
        self.progress.update(self.bar, completed=state.global_step)
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True  # the last step may be the best one

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, object] | None = None, **_: Any) -> None:
        figures = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
        if "epoch" in figures:
            figures["epoch"] = self.schedule.epochs(state.global_step)
        if "loss" in figures and self.step_seconds:
            figures["tokens_per_second"] = (
                self.schedule.real_tokens(state.global_step - 1, state.global_step) / self.step_seconds
            )
            speed = f"{figures['tokens_per_second']:.0f} tok/s"
            self.progress.update(self.bar, description=f"train {self.name} loss {figures['loss']:.3f}", speed=speed)
        if is_main():
            self.log_metrics(figures, state.global_step)
        found = find_divergence(state.log_history, self.settings.divergence)
        if found:
            self.progress.stop()
            raise DivergedError(f"train: {self.name} diverged at step {state.global_step}: {found}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        stalled = has_stalled(state.log_history, self.settings.early_stopping_patience, self.goal)
        control.should_training_stop |= stalled
        best = is_new_best(state.log_history, self.goal)
        if best:  # of sharded weights transformers looks for the best one's folder before it writes it (5.17.0)
            Path(args.output_dir, f"checkpoint-{state.global_step}").mkdir(parents=True, exist_ok=True)
        control.should_save |= stalled or best
        self.clock.start()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait_for_others()  # each has written a file of its own into it
        if state.is_world_process_zero:
            complete_checkpoint(Path(args.output_dir), state.global_step, state.best_global_step)
            self.after_checkpoint(state.global_step, state.best_global_step)
        self.clock.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.stop()
