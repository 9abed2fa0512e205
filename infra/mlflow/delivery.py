"""The outbox delivered to MLflow, once, whatever was killed when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.mlflow.client import LOCK_SECONDS, REFUSALS, connect, tracking_uri, warn
from infra.mlflow.outbox import Line, Outbox
from infra.state.places import MLFLOW_ARTIFACTS
from infra.state.stores import mlflow_database


def deliver(outbox: Outbox) -> None:
    """Sends what MLflow has not taken yet, noting each batch that it took; one process at a time.

    A kill between the two sends the batch again, and every kind of line bears that: a run is found by its tag, an equal
    point is one row (mlflow/store/tracking/sqlalchemy_store.py:_log_metrics_once), parameters, tags, data sets, files
    and status are put, not added.
    """
    from filelock import FileLock

    client = connect(tracking_uri())
    with FileLock(outbox.folder / ".lock", timeout=LOCK_SECONDS):
        for lines, end in outbox.batches():
            outbox.taken(end, send_or_give_up(client, outbox.run_id, lines))


def send_or_give_up(client: Any, run_id: str | None, lines: list[Line]) -> str | None:
    """The MLflow run that the record is at after these lines. Raises what MLflow raises, unless it would refuse them
    for ever."""
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
        client.log_batch(
            run_id,
            metrics=[
                Metric(key, value, one["time"], one["step"]) for one in lines for key, value in one["metrics"].items()
            ],
        )
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
    """A store without a server keeps its artifacts in this checkout; a server says itself where it keeps them."""
    from mlflow.exceptions import MlflowException

    here = not tracking_uri().startswith("http")
    location = mlflow_database(Path.cwd()).with_name(MLFLOW_ARTIFACTS).as_uri() if here else None
    try:
        found = client.get_experiment_by_name(name)
        return str(found.experiment_id if found else client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another run just now
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def dataset_input(card: Mapping[str, object]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = str(card["fingerprint"]).removeprefix("sha256:")[:36]  # MLflow's column is 36 wide
    source, profile = (
        json.dumps({key: card.get(key) for key in keys})
        for keys in (("source", "licence", "test_fingerprint"), ("splits", "left_out"))
    )
    return DatasetInput(
        Dataset(str(card["source"])[:500], digest, "tunegate", source, profile=profile),
        [InputTag("mlflow.data.context", "training")],
    )
