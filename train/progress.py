"""The trainer's callback: a progress bar on stderr, metrics to the tracker, the mark of a complete checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def watcher(name: str, log_metrics: Callable[[dict[str, float], int], None], marker: str) -> Any:
    """A TrainerCallback, made here so that importing this module does not import transformers."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def __init__(self) -> None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.progress = Progress(*columns, console=Console(stderr=True))
            self.bar = self.progress.add_task(f"train {name}")

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.update(self.bar, total=state.max_steps, completed=state.global_step)
            self.progress.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.update(self.bar, completed=state.global_step)
            if state.global_step >= state.max_steps:
                control.should_evaluate = control.should_save = True  # the last step may be the best one

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            figures = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
            log_metrics(figures, state.global_step)
            if "loss" in figures:
                self.progress.update(self.bar, description=f"train {name} loss {figures['loss']:.3f}")

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / marker).touch()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.stop()

    return Watcher()
