"""The seams to TensorBoard and Weights & Biases: the figures that MLflow gets, told beside it (`train.report_to`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from configs.errors import InputError
from configs.run.config import RunConfig

Log = Callable[[dict[str, float], int], None]


class Tracker(Protocol):
    """What is told first."""

    @property
    def run_id(self) -> str | None: ...

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


class Reporters:
    """A tracker that tells the reporters too; they open with the first figures."""

    def __init__(self, tracker: Tracker, config: RunConfig, folder: Path) -> None:
        """Raises InputError where a package is not installed, before anything is trained."""
        self.tracker, self.config, self.folder = tracker, config, folder
        self.opened: list[tuple[Log, Callable[[], Any]]] | None = None
        if lacking := not_installed(config):
            raise InputError(
                f"train.report_to: {' and '.join(lacking)} is not installed",
                hint=f"pip install {' '.join(lacking)}, or --set train.report_to=[]",
            )

    @property
    def run_id(self) -> str | None:
        return self.tracker.run_id

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.tracker.log_metrics(metrics, step)
        if self.opened is None:
            openers = {"tensorboard": open_tensorboard, "wandb": open_wandb}
            self.opened = [openers[name](self.config, self.folder) for name in self.config.train.report_to]
        for log, _ in self.opened:
            log(metrics, step)

    def close(self) -> None:
        for _, close in self.opened or []:
            close()


def not_installed(config: RunConfig) -> list[str]:
    """Packages of train.report_to that this machine lacks."""
    return [name for name in config.train.report_to if find_spec(name) is None]


def open_tensorboard(config: RunConfig, folder: Path) -> tuple[Log, Callable[[], Any]]:
    """Event files under build/NAME/tensorboard: tensorboard --logdir build."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def open_wandb(config: RunConfig, folder: Path) -> tuple[Log, Callable[[], Any]]:
    """Offline below build/NAME/wandb, for `wandb sync`, unless WANDB_MODE says otherwise."""
    import wandb

    run = wandb.init(
        project=config.experiment,
        name=config.name,
        dir=str(folder),
        config=config.model_dump(mode="json"),
        mode=os.environ.get("WANDB_MODE", "offline"),
    )
    return lambda metrics, step: run.log(metrics, step=step), run.finish
