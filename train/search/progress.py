"""Bars of a sweep on stderr: its trials with the best validation loss so far, and below it each one under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from train.search.wave import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TOLD = 4  # trials under way that a line names


class SweepProgress(Progress):
    """`with` it the bars are shown."""

    def __init__(self, name: str, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        super().__init__(*columns, console=Console(stderr=True))
        self.name = name
        self.bar = self.add_task(f"sweep {name}", total=total, note="")
        self.under_way: dict[int, TaskID] = {}

    def trials(self, finished: list[FrozenTrial]) -> None:
        values = [trial.value for trial in finished if trial.state.name == "COMPLETE" and trial.value is not None]
        best = f" best {min(values):.4f}" if values else ""
        self.update(self.bar, completed=len(finished), description=f"sweep {self.name}{best}")

    def stop(self) -> None:
        self.wave([])  # what stays on the terminal is the sweep's own bar
        super().stop()

    def wave(self, trials: Sequence[Trial]) -> None:
        """These are under way from now on, and no others."""
        for task in self.under_way.values():
            self.remove_task(task)
        self.under_way = {
            trial.number: self.add_task(f"  trial {trial.number}", total=trial.settings.train.max_steps, note="")
            for trial in trials
        }

    def step(self, number: int, step: int, loss: float | None) -> None:
        """Of one trial; any thread may say so."""
        task = self.under_way[number]
        self.update(task, completed=step)
        if loss is not None:
            self.update(task, note=f"validation loss {loss:.4f}")

    def describe(self) -> str:
        """For those who see no bar."""
        whole = next(task for task in self.tasks if task.id == self.bar)
        under_way = [task for task in self.tasks if task.id in self.under_way.values()]
        each = [f"{task.description.strip()} step {task.completed:.0f}" for task in under_way[:TOLD]]
        more = [f"{len(under_way) - TOLD} more"] if len(under_way) > TOLD else []
        return ", ".join([f"{whole.description}: {whole.completed:.0f} of {whole.total or 0:.0f} ended", *each, *more])
