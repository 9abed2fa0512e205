"""`tunegate sync`: records that MLflow has not taken yet, delivered now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.errors import InputError, OutsideError
from infra.mlflow_client import cause_of, deliver, tracking_uri
from infra.outbox import Outbox


def sync(names: list[str], root: Path = Path("build")) -> list[dict[str, Any]]:
    """Name, lines delivered by this call, and MLflow's run id. No name: every record under `root`.

    Raises InputError for a name without a record, OutsideError where MLflow does not take all; what it took stays taken.
    """
    folders = [root / name / "tracking" for name in names] or sorted(root.glob("*/tracking"))
    missing = [folder for folder in folders if not Outbox(folder).record.exists()]
    if missing and names:
        known = ", ".join(path.parent.name for path in sorted(root.glob("*/tracking"))) or "none"
        raise InputError(f"found no record in {', '.join(map(str, missing))}; expected one of: {known}", hint="tunegate train CONFIG")
    return [sync_one(Outbox(folder)) for folder in folders if folder not in missing]


def sync_one(outbox: Outbox) -> dict[str, Any]:
    lines = sum(1 for _ in outbox.left())
    try:
        if lines:
            deliver(outbox)
    except Exception as error:  # MLflow, its store and its absence raise many kinds
        left = sum(1 for _ in outbox.left())
        message = f"MLflow ({tracking_uri()}): {cause_of(error)}; {left} of {lines} lines of {outbox.record} are left"
        raise OutsideError(message, hint="start MLflow, or set MLFLOW_TRACKING_URI; then tunegate sync again") from error
    return {"name": outbox.folder.parent.name, "delivered_lines": lines, "run_id": outbox.run_id}
