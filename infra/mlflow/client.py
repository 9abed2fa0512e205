"""What MLflow is told for each line of the record, and how: quickly, quietly, given up only where it would refuse for ever."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from configs.errors import InputError, OutsideError, cause_of
from infra.masking import masked
from infra.mlflow.outbox import Line, Outbox

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


def deliver(outbox: Outbox) -> None:
    """Sends what MLflow has not taken yet, noting each batch that it took; one process at a time.

    A kill between the two sends the batch again, and every kind of line bears that: a run is found by its tag, an equal point is one row
    (mlflow/store/tracking/sqlalchemy_store.py:_log_metrics_once), parameters, tags, data sets, files and status are put, not added.
    """
    from filelock import FileLock

    client = connect(tracking_uri())
    with FileLock(outbox.folder / ".lock", timeout=LOCK_SECONDS):
        for lines, end in outbox.batches():
            outbox.taken(end, send_or_give_up(client, outbox.run_id, lines))


def send_or_give_up(client: Any, run_id: str | None, lines: list[Line]) -> str | None:
    """The MLflow run that the record is at after these lines. Raises what MLflow raises, unless it would refuse them for ever."""
    from mlflow.exceptions import MlflowException

    try:
        return send(client, run_id, lines)
    except (FileNotFoundError, MlflowException) as error:
        if isinstance(error, MlflowException) and error.error_code not in REFUSALS:
            raise
        warn(f"{', '.join(lines[0])} given up", error)
        return run_id


def send(client: Any, run_id: str | None, lines: list[Line]) -> str | None:
    from mlflow.entities import Metric, Param, RunTag

    line = lines[0]
    if "start" in line:
        return create_run(client, line)
    if run_id is None or "resume" in line:
        return line.get("resume")
    if "metrics" in line:
        client.log_batch(run_id, metrics=[Metric(key, value, one["time"], one["step"]) for one in lines for key, value in one["metrics"].items()])
    elif "params" in line:
        client.log_batch(run_id, params=[Param(key, value) for key, value in line["params"].items()])
    elif "tags" in line:
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in line["tags"].items()])
    elif "dataset" in line:
        client.log_inputs(run_id, [dataset_input(line["dataset"])])
    elif "artifacts" in line:
        client.log_artifacts(run_id, line["artifacts"], artifact_path=Path(line["artifacts"]).name)
    else:
        client.set_terminated(run_id, line["status"], end_time=line["time"])
    return run_id


def create_run(client: Any, line: Line) -> str:
    """The run of this line: made, or found where a killed delivery had made it."""
    start, experiment = line["start"], experiment_id(client, line["start"]["experiment"])
    found = client.search_runs([experiment], f"tags.`tunegate.id` = '{start['id']}'", max_results=1)
    tags = {"mlflow.source.name": "tunegate train", "mlflow.source.git.commit": start["git_revision"]}
    tags |= {"tunegate.key": start["key"], "tunegate.id": start["id"]}
    if "parent" in start:
        tags["mlflow.parentRunId"] = run_id_of(Outbox(Path(start["parent"])))
    return str((found[0] if found else client.create_run(experiment, line["time"], tags, start["name"])).info.run_id)


def run_id_of(outbox: Outbox) -> str:
    """Delivers the parent's record first: a child can only name a run that MLflow knows."""
    deliver(outbox)
    return outbox.run_id or ""


def experiment_id(client: Any, name: str) -> str:
    """A store without a server keeps its artifacts under build; a server says itself where it keeps them."""
    from mlflow.exceptions import MlflowException

    location = None if tracking_uri().startswith("http") else Path("build/mlartifacts").resolve().as_uri()
    try:
        found = client.get_experiment_by_name(name)
        return str(found.experiment_id if found else client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another run just now
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def dataset_input(card: dict[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = str(card["fingerprint"]).removeprefix("sha256:")[:36]  # MLflow's column is 36 wide
    source, profile = (json.dumps({key: card.get(key) for key in keys}) for keys in (("source", "licence", "test_fingerprint"), ("splits", "left_out")))
    return DatasetInput(Dataset(str(card["source"])[:500], digest, "tunegate", source, profile=profile), [InputTag("mlflow.data.context", "training")])


def download_model(uri: str, target: Path) -> Path:
    """The files of models:/NAME/VERSION or runs:/RUN_ID/PATH, under `target`. Raises InputError where there are none, OutsideError where MLflow is down."""
    import_mlflow(tracking_uri())
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target.mkdir(parents=True, exist_ok=True)
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(target), tracking_uri=tracking_uri()))
    except MlflowException as error:
        found = masked(f"base.mlflow: {uri} at {tracking_uri()}: {cause_of(error)}")
        if error.error_code in REFUSALS:
            raise InputError(f"{found}; expected a registered version or a run with these files", hint="set MLFLOW_TRACKING_URI to where it is") from error
        raise OutsideError(found, hint="start MLflow, or name another by MLFLOW_TRACKING_URI") from error
    except OSError as error:
        raise InputError(f"base.mlflow: {uri}: its files cannot be read: {cause_of(error)}", hint="log the weights as artifacts of that run") from error


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('build/mlflow.db').resolve()}"


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
    """An MlflowClient. Making it asks the store, and makes the tables of a new one: one process at a time, or their migrations collide."""
    import_mlflow(uri)
    from filelock import FileLock
    from mlflow.tracking import MlflowClient

    Path("build").mkdir(exist_ok=True)
    with contextlib.nullcontext() if uri.startswith("http") else FileLock("build/mlflow.lock", timeout=LOCK_SECONDS):
        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def warn(consequence: str, error: Exception) -> None:
    """One line on stderr, and only once: a long training does not repeat itself."""
    if consequence not in WARNED:
        WARNED.add(consequence)
        print(masked(f"warning: MLflow ({tracking_uri()}): {cause_of(error)}; {consequence}"), file=sys.stderr)
