"""Checkpoints that a kill cannot tear, and the few facts that a resumed run must find as they were.

A checkpoint counts from the moment that it holds the file `complete`, which is its last; it loses that file first
when it is thrown away. So whatever the instant of a kill, what is marked is whole.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import cast

from configs.training_record import RunFacts
from infra.checkpoints.store import CheckpointStore, DamagedError, Stored
from infra.files.atomic import read_json, write_json

COMPLETE = "complete"
RUN = "run.json"
# What only going on needs: of the best checkpoint that is not the newest it is thrown away (an optimizer is twice the
# trained weights).
RESUMED_FROM = ("optimizer.pt", "optimizer_0", "scheduler.pt", "rng_state*.pth", "scaler.pt")


def read_facts(folder: Path, key: str) -> RunFacts | None:
    """The remembered facts of this very config and data."""
    found = read_json(folder / RUN)
    return cast(RunFacts, found) if found and found.get("key") == key else None


def open_run(folder: Path, fresh: RunFacts, store: CheckpointStore | None = None) -> RunFacts:
    """The remembered facts of this very config and data (`key`); of any other, all checkpoints are thrown away and
    `fresh` is remembered. What the store has that is newer is brought here, and its facts with it."""
    found = read_facts(folder, fresh["key"])
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found = remember(folder, fresh)
    for left in folder.glob(".*"):  # what a killed run was sending or bringing
        shutil.rmtree(left, ignore_errors=True)
    restored = restore(store, folder) if store else None
    return remember(folder, restored) if restored else found


def restore(store: CheckpointStore, folder: Path) -> RunFacts | None:
    """Brings the newest checkpoint that verifies, and the best one that it knows of, where it is newer than the newest
    here; its facts. Torn uploads are removed."""
    for torn in store.clean():
        print(f"{store.url}: removed {torn}, which was not sent to its end", file=sys.stderr)
    newest = last_checkpoint(folder)
    stored = {one["step"]: one for one in store.manifests()}
    for manifest in stored.values():
        if manifest.get("weights_only") or (newest and manifest["step"] <= step_of(newest)):
            continue
        try:
            bring(store, manifest, stored.get(manifest["best_step"] or 0), folder)
        except DamagedError as error:
            print(f"{store.url}: checkpoint {manifest['step']} is passed over: {error}", file=sys.stderr)
            continue
        print(f"{store.url}: goes on from checkpoint {manifest['step']}", file=sys.stderr)
        return cast(RunFacts, manifest["facts"])
    return None


def bring(store: CheckpointStore, newest: Stored, best: Stored | None, folder: Path) -> None:
    """Both or neither: without its best one a training would end with another model. Raises DamagedError."""
    if newest["best_step"] is not None and best is None:
        raise DamagedError(f"the best checkpoint, {newest['best_step']}, is not there")
    wanted = {one["step"]: one for one in (best, newest) if one is not None}
    for step, manifest in wanted.items():
        store.fetch(manifest, folder / f".restored-{step}")
    for path in folder.glob("checkpoint-*"):
        (path / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(path)
    for step in wanted:
        (folder / f".restored-{step}").replace(folder / f"checkpoint-{step}")
    for step in sorted(wanted, reverse=True):  # the newest is marked first: of the best one nothing goes on
        (folder / f"checkpoint-{step}" / COMPLETE).touch()


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
