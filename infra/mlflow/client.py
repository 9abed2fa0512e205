"""What MLflow is told for each line of the record, and how: quickly, quietly, given up only where it would refuse for
ever."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from configs.errors import ExternalError, InputError, cause_of
from infra.masking import masked
from infra.state.places import STORES
from infra.state.stores import mlflow_database

# Answers that would come again: the line is given up, so that those after it get through.
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
LOCK_SECONDS = 60.0
WARNED: set[str] = set()
QUICK_AND_QUIET = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def download_model(uri: str, target: Path) -> Path:
    """The files of models:/NAME/VERSION or runs:/RUN_ID/PATH, under `target`. Raises InputError where there are none,
    ExternalError where MLflow is down."""
    import_mlflow(tracking_uri())
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target.mkdir(parents=True, exist_ok=True)
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(target), tracking_uri=tracking_uri()))
    except MlflowException as error:
        found = masked(f"base.mlflow: {uri} at {tracking_uri()}: {cause_of(error)}")
        if error.error_code in REFUSALS:
            raise InputError(
                f"{found}; expected a registered version or a run with these files",
                hint="set MLFLOW_TRACKING_URI to where it is",
            ) from error
        raise ExternalError(found, hint="start MLflow, or name another by MLFLOW_TRACKING_URI") from error
    except OSError as error:
        raise InputError(
            f"base.mlflow: {uri}: its files cannot be read: {cause_of(error)}",
            hint="log the weights as artifacts of that run",
        ) from error


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlflow_database(Path.cwd())}"


@functools.cache
def import_mlflow(uri: str) -> None:
    """In the caller's thread: two threads that import at once can see each other's half-made modules."""
    for name, value in QUICK_AND_QUIET.items():
        os.environ.setdefault(name, value)
    with contextlib.suppress(Exception):  # whoever connects meets it again, and warns
        import mlflow.tracking

        if not uri.startswith("http"):
            import mlflow.store.model_registry.sqlalchemy_store
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@functools.cache
def connect(uri: str) -> Any:
    """An MlflowClient. Making it asks the store, and makes the tables of a new one: one process at a time, or their
    migrations collide."""
    import_mlflow(uri)
    from filelock import FileLock
    from mlflow.tracking import MlflowClient

    STORES.mkdir(exist_ok=True)
    lock = STORES / "mlflow.lock"
    with contextlib.nullcontext() if uri.startswith("http") else FileLock(lock, timeout=LOCK_SECONDS):
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def warn(consequence: str, error: Exception) -> None:
    """One line on stderr, and only once: a long training does not repeat itself."""
    if consequence not in WARNED:
        WARNED.add(consequence)
        print(masked(f"warning: MLflow ({tracking_uri()}): {cause_of(error)}; {consequence}"), file=sys.stderr)


PATIENCE_SECONDS = 30.0  # at the end of a stage, for what is left; a new SQLite file takes 3, on a busy machine 15


Result = TypeVar("Result")


SILENCE = TimeoutError("no answer yet")


def attempt(work: Callable[[], Result], consequence: str) -> Result | None:
    """The registry is a view of git and DVC: neither its faults nor its silence may stop a release."""
    results: list[Result] = []
    errors: list[Exception] = [SILENCE]

    def target() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    import_mlflow(tracking_uri())
    worker = threading.Thread(target=target, daemon=True)
    worker.start()
    worker.join(PATIENCE_SECONDS)
    if not results:
        warn(consequence, errors[-1])
    return results[0] if results else None
