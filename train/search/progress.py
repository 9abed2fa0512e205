"""A bar over the trials of a sweep on stderr, with the best validation loss so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class SweepProgress(Progress):
    """`with` it the bar is shown."""

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

    def trials(self, finished: list[FrozenTrial]) -> None:
        values = [trial.value for trial in finished if trial.state.name == "COMPLETE" and trial.value is not None]
        best = f" best {min(values):.4f}" if values else ""
        self.update(self.bar, completed=len(finished), description=f"sweep {self.name}{best}")

    def step(self, step: int) -> None:
        self.update(self.bar, note=f"step {step}")

    def describe(self) -> str:
        """For those who see no bar."""
        bar = self.tasks[0]
        return f"{bar.description}, trial {bar.completed + 1:.0f} of {bar.total or 0:.0f} {bar.fields['note']}".rstrip()
