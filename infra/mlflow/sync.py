"""`tunegate sync`: records that MLflow has not taken yet, delivered now."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from configs.errors import ExternalError, InputError, cause_of
from infra.masking import masked
from infra.mlflow.client import tracking_uri
from infra.mlflow.delivery import deliver
from infra.mlflow.outbox import Outbox


class Synced(TypedDict):
    """What a record had left, and MLflow's run for it."""

    name: str
    delivered_lines: int
    run_id: str | None


def sync(names: list[str], root: Path = Path("build")) -> list[Synced]:
    """Name, lines delivered by this call, and MLflow's run id. No name: every record under `root`.

    Raises InputError for a name without a record, ExternalError where MLflow does not take all; what it took stays
    taken.
    """
    folders = {name: records(root, name) for name in names or ["*"]}
    missing = [name for name in names if not folders[name]]
    if missing:
        known = ", ".join(sorted({folder.relative_to(root).parts[0] for folder in records(root, "*")})) or "none"
        raise InputError(
            f"found no record in {', '.join(str(root / name / 'tracking') for name in missing)}; "
            f"expected one of: {known}",
            hint="tunegate train CONFIG",
        )
    return [sync_one(Outbox(folder), root) for found in folders.values() for folder in found]


def records(root: Path, name: str) -> list[Path]:
    """Of the run itself, of its sweep and of the sweep's trials."""
    return sorted(
        folder
        for place in ("tracking", "sweep/tracking", "sweep/trial-*/tracking")
        for folder in root.glob(f"{name}/{place}")
        if Outbox(folder).record.exists()
    )


def sync_one(outbox: Outbox, root: Path) -> Synced:
    lines = sum(1 for _ in outbox.left())
    try:
        if lines:
            deliver(outbox)
    except Exception as error:  # MLflow, its store and its absence raise many kinds
        left = sum(1 for _ in outbox.left())
        message = f"MLflow ({tracking_uri()}): {cause_of(error)}; {left} of {lines} lines of {outbox.record} are left"
        raise ExternalError(
            masked(message), hint="start MLflow, or set MLFLOW_TRACKING_URI; then tunegate sync again"
        ) from error
    return {
        "name": outbox.folder.parent.relative_to(root).as_posix(),
        "delivered_lines": lines,
        "run_id": outbox.run_id,
    }
