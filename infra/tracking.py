"""Experiment tracking, the only user of MLflow.

What is logged goes to folder/metrics.jsonl first and from there to MLflow, in order, from the first line that
MLflow has not taken. So a killed training goes on as the same MLflow run, and what was logged while MLflow was
down is delivered by the next command. Delivery has a thread of its own: some of MLflow's stores try for
minutes to connect (mlflow/store/db/utils.py), and a training shall not wait for them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from configs.release import Manifest
from configs.schema import RunConfig
from infra.git import head_revision
from infra.outbox import Line, Outbox

SECONDS_BETWEEN_DELIVERIES = 5.0
SECONDS_AFTER_A_FAILURE = 60.0
PATIENCE_SECONDS = 20.0  # at the end of a stage, for what is left; importing mlflow takes 3, a new SQLite file 3 more
Result = TypeVar("Result")
DELIVERING = threading.Lock()
# Answers that would come again: the line is given up, so that those after it get through.
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
WARNED: set[str] = set()
QUICK_AND_QUIET = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker:
    """One MLflow run and its record in `folder`. No fault of MLflow's is ever raised, and only run_id and finish wait for it."""

    def __init__(self, folder: Path, opening: tuple[Line, ...] = ()) -> None:
        self.outbox = Outbox(folder)
        self.opening = opening
        self.next_delivery = 0.0
        self.worker = threading.Thread()

    @property
    def run_id(self) -> str | None:
        """None as long as MLflow has not taken the run."""
        if self.opening:
            return self.opening[0].get("resume")
        self.wait()
        return None if any("start" in line for line, _ in self.outbox.left()) else self.outbox.run_id

    def log_params(self, params: dict[str, Any]) -> None:
        self.append({"params": {key: str(value) for key, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.append({"metrics": metrics, "step": step})

    def log_dataset(self, card: dict[str, Any]) -> None:
        """`card`: the data card that prepare wrote."""
        self.append({"dataset": card})

    def log_artifacts(self, directory: Path) -> None:
        """Every file of `directory`, under its name; delivered as they are at that time."""
        self.append({"artifacts": str(directory)})

    def finish(self, status: str = "FINISHED") -> None:
        """Delivers what is left, if MLflow can take it. `status`: FINISHED, FAILED or KILLED."""
        self.wait()
        self.next_delivery = 0.0
        self.append({"status": status})
        self.wait()
        if self.worker.is_alive():
            self.warn(TimeoutError(f"no answer in {PATIENCE_SECONDS:g} s"))

    def append(self, line: Line) -> None:
        """To disk now, to MLflow when the last delivery was some seconds ago. A run begins with its first metrics: what is logged before waits for them."""
        begun = not self.opening or goes_on(self.outbox, self.opening)
        if not begun and "start" in self.opening[0] and "metrics" not in line:
            self.opening += (line,)
            return
        self.outbox.append(*(() if begun else self.opening), line)
        self.opening = ()
        if time.monotonic() >= self.next_delivery and not self.worker.is_alive():
            self.worker = threading.Thread(target=self.deliver, daemon=True)
            self.worker.start()

    def deliver(self) -> None:
        """However slow MLflow is, it is busy with us a twentieth of the time at most."""
        began, pause = time.monotonic(), SECONDS_BETWEEN_DELIVERIES
        try:
            with DELIVERING:
                deliver(self.outbox)
        except Exception as error:  # whatever MLflow, its store or its absence raises: training goes on
            pause = SECONDS_AFTER_A_FAILURE
            self.warn(error)
        self.next_delivery = time.monotonic() + max(pause, 20 * (time.monotonic() - began))

    def wait(self) -> None:
        if self.worker.is_alive():
            self.worker.join(PATIENCE_SECONDS)

    def warn(self, error: Exception) -> None:
        warn(f"the record is kept in {self.outbox.record} and delivered by the next command", error)


def start_run(config: RunConfig, folder: Path) -> Tracker:
    """The run begins with the first line logged; a killed run of the same training goes on."""
    trained = config.model_dump(include={"name", "task", "base", "data", "train"})
    key = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()
    start = {"experiment": config.experiment, "name": config.name, "key": key, "git_revision": head_revision()}
    return Tracker(folder, ({"start": start}, {"params": flatten(config.model_dump(mode="json"))}))


def resume_run(run_id: str | None, folder: Path) -> Tracker:
    """The run that `folder` records, or the one named: evaluation and gate add to what training began."""
    tracker = Tracker(folder)
    if run_id not in (None, tracker.run_id):
        tracker.opening = ({"resume": run_id},)
    return tracker


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """train.lora.rank=16 and its like."""
    found: dict[str, str] = {}
    for key, value in config.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return found


def goes_on(outbox: Outbox, opening: tuple[Line, ...]) -> bool:
    """Whether the record's last run is this very training, unfinished."""
    if not opening or "start" not in opening[0]:
        return False
    last: Line = {}
    for line, _ in outbox.lines():
        last = line if "start" in line or "resume" in line else {} if "status" in line else last
    return bool(last.get("start", {}).get("key") == opening[0]["start"]["key"])


def deliver(outbox: Outbox) -> None:
    """Sends what MLflow has not taken yet, noting each batch that it took."""
    client = connect(tracking_uri())
    for lines, end in outbox.batches():
        outbox.taken(end, send_or_give_up(client, outbox.run_id, lines))


def send_or_give_up(client: Any, run_id: str | None, lines: list[Line]) -> str | None:
    """The MLflow run that the record is at after these lines. Raises what MLflow raises, unless it would refuse them for ever."""
    from mlflow.exceptions import MlflowException

    try:
        return send(client, run_id, lines)
    except FileNotFoundError as error:
        warn(f"{', '.join(lines[0])} given up", error)
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        warn(f"{', '.join(lines[0])} given up", error)
    return run_id


def send(client: Any, run_id: str | None, lines: list[Line]) -> str | None:
    from mlflow.entities import Metric, Param

    line = lines[0]
    if "start" in line:
        return create_run(client, line)
    if run_id is None or "resume" in line:
        return line.get("resume")
    if "metrics" in line:
        client.log_batch(run_id, metrics=[Metric(key, value, one["time"], one["step"]) for one in lines for key, value in one["metrics"].items()])
    elif "params" in line:
        client.log_batch(run_id, params=[Param(key, value) for key, value in line["params"].items()])
    elif "dataset" in line:
        client.log_inputs(run_id, [dataset_input(line["dataset"])])
    elif "artifacts" in line:
        client.log_artifacts(run_id, line["artifacts"], artifact_path=Path(line["artifacts"]).name)
    else:
        client.set_terminated(run_id, line["status"], end_time=line["time"])
    return run_id


def create_run(client: Any, line: Line) -> str:
    start = line["start"]
    tags = {"mlflow.source.name": "tunegate train", "mlflow.source.git.commit": start["git_revision"], "tunegate.key": start["key"]}
    run = client.create_run(experiment_id(client, start["experiment"]), start_time=line["time"], run_name=start["name"], tags=tags)
    return str(run.info.run_id)


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
    source = json.dumps({"source": card["source"], "licence": card.get("licence"), "test_fingerprint": card.get("test_fingerprint")})
    profile = json.dumps({"splits": card.get("splits"), "left_out": card.get("left_out")})
    return DatasetInput(Dataset(str(card["source"])[:500], digest, "tunegate", source, profile=profile), [InputTag("mlflow.data.context", "training")])


def register(manifest: Manifest, release_dir: Path, run_id: str | None) -> str | None:
    """The registered model version of this digest, made once, with the alias candidate; None (and a warning) without MLflow."""

    def work() -> str:
        client = connect(tracking_uri())
        version = version_of(client, manifest) or create_version(client, manifest, release_dir, run_id)
        client.set_registered_model_alias(manifest.name, "candidate", version)
        return version

    return attempt(work, f"{manifest.reference} is not registered; tunegate releases publish does it again")


def set_champion(manifest: Manifest) -> None:
    """The alias champion: one version for each production environment, whatever its model's name."""

    def work() -> None:
        client = connect(tracking_uri())
        version = version_of(client, manifest)
        if version is None:
            raise LookupError(f"no registered version has digest {manifest.digest}")
        for model in client.search_registered_models():
            if model.name != manifest.name and model.tags.get("production") == manifest.config.get("production") and "champion" in model.aliases:
                client.delete_registered_model_alias(model.name, "champion")
        client.set_registered_model_alias(manifest.name, "champion", version)

    attempt(work, f"{manifest.reference} has no alias champion")


def attempt(work: Callable[[], Result], consequence: str) -> Result | None:
    """The registry is a view of git and DVC: neither its faults nor its silence may stop a release."""
    results: list[Result] = []
    errors: list[Exception] = [TimeoutError(f"no answer in {PATIENCE_SECONDS:g} s")]

    def target() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    worker = threading.Thread(target=target, daemon=True)
    worker.start()
    worker.join(PATIENCE_SECONDS)
    if not results:
        warn(consequence, errors[-1])
    return results[0] if results else None


def version_of(client: Any, manifest: Manifest) -> str | None:
    found = client.search_model_versions(f"name='{manifest.name}'")
    return next((str(version.version) for version in found if version.tags.get("digest") == manifest.digest), None)


def create_version(client: Any, manifest: Manifest, release_dir: Path, run_id: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(manifest.name, tags={"production": manifest.config.get("production", "")})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # A server refuses sources in its own file system (mlflow/server/handlers.py:_validate_source_run): there, DVC's name of the bytes.
    source = f"dvc://{release_dir.as_posix()}" if tracking_uri().startswith("http") else release_dir.resolve().as_uri()
    tags = {"digest": manifest.digest, "git_revision": manifest.git_revision, "reference": manifest.reference}
    return str(client.create_model_version(manifest.name, source, run_id=run_id, tags=tags).version)


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('build/mlflow.db').resolve()}"


@functools.cache
def connect(uri: str) -> Any:
    """An MlflowClient: importing it takes seconds, and a new SQLite file a few more."""
    for name, value in QUICK_AND_QUIET.items():
        os.environ.setdefault(name, value)
    Path("build").mkdir(exist_ok=True)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def warn(consequence: str, error: Exception) -> None:
    """One line on stderr, and only once: a long training does not repeat itself."""
    if consequence not in WARNED:
        WARNED.add(consequence)
        print(f"warning: MLflow ({tracking_uri()}): {cause_of(error)}; {consequence}", file=sys.stderr)


def cause_of(error: BaseException) -> str:
    """The innermost exception: MLflow wraps "connection refused" four times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
