"""Sweeps without a training: their config, and who tracks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.run.config import RunConfig

RATES = [0.1, 0.2, 0.3]


class Runs:
    """Stands for infra.tracking: remembers each run's name, parent and end."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, Path | None]] = []
        self.ended: list[str] = []
        self.logged: list[dict[str, float]] = []
        self.run_id = None

    def __call__(self, config: RunConfig, folder: Path, name: str, parent: Path | None) -> Runs:
        self.opened.append((name, parent))
        return self

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append(metrics)

    def finish(self, status: str = "FINISHED") -> None:
        self.ended.append(status)


def run_config(**section: Any) -> RunConfig:
    raw = {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4},
        "gate": "g",
    }
    whole = {"parameters": {"train.learning_rate": {"choices": RATES}}, "sampler": "grid", "pruner": "none"} | section
    return RunConfig.model_validate(raw | {"sweep": whole})
