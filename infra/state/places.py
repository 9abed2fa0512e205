"""Where state and stores lie in a checkout, now and before. Of the standard library alone: `make clean` reads it."""

from __future__ import annotations

from pathlib import Path

RECORD = "events.jsonl"
# The states of environments, until they had a home of their own.
EARLIER = Path("build/deploy")
SHARED = "local"  # in EARLIER: of every environment whose YAML named no state_dir

# What no command can make again. Not in build/, which `make clean` removes.
STORES = Path("stores")
DVC_REMOTE = STORES / "dvc"  # as .dvc/config names it
MLFLOW_DATABASE = STORES / "mlflow.db"
MLFLOW_ARTIFACTS = "mlartifacts"  # beside the database
LOOKS = STORES / "looks"
OLDEST_LOOKS = STORES / "looks.jsonl"
EARLIER_DVC_REMOTE = Path("build/dvc-remote")


def earlier(place: Path) -> Path:
    """Where that store lay before."""
    return EARLIER_DVC_REMOTE if place == DVC_REMOTE else Path("build") / place.relative_to(STORES)
