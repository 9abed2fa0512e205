"""Checkpoints that a kill cannot tear, and the few facts that a resumed run must find as they were.

A checkpoint counts from the moment that it holds the file `complete`, which is its last; it loses that file first
when it is thrown away. So whatever the instant of a kill, what is marked is whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

from configs.training_record import RunFacts
from infra.files.atomic import read_json, write_json

COMPLETE = "complete"
RUN = "run.json"
# What only going on needs: of the best checkpoint that is not the newest it is thrown away (an optimizer is twice the
# trained weights).
RESUMED_FROM = ("optimizer.pt", "optimizer_0", "scheduler.pt", "rng_state*.pth", "scaler.pt")


def open_run(folder: Path, fresh: RunFacts) -> RunFacts:
    """The remembered facts of this very config and data (`key`); of any other, all checkpoints are thrown away and
    `fresh` is remembered."""
    found = read_json(folder / RUN)
    if found and found.get("key") == fresh["key"]:
        return cast(RunFacts, found)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return remember(folder, fresh)


def remember(folder: Path, facts: RunFacts) -> RunFacts:
    write_json(folder / RUN, facts)
    return facts


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def whole_checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted((path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")), key=step_of)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; torn ones are thrown away."""
    whole = whole_checkpoints(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)  # other processes of this training may be at it too
    return whole[-1] if whole else None


def complete_checkpoint(folder: Path, step: int, best_step: int | None) -> None:
    """Marks the checkpoint of `step`, then throws away all others but the best one, of which the weights stay."""
    (folder / f"checkpoint-{step}" / COMPLETE).touch()
    for path in whole_checkpoints(folder)[:-1]:
        if step_of(path) == best_step:
            for file in (file for pattern in RESUMED_FROM for file in path.glob(pattern)):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        else:
            (path / COMPLETE).unlink()
            shutil.rmtree(path)
