"""Experiment tracking and the model registry: with infra/mlflow/client.py, the only user of MLflow.

What is logged goes to folder/metrics.jsonl first and from there to MLflow, in order, from the first line that
MLflow has not taken. So a killed training goes on as the same MLflow run, and what was logged while MLflow was
down is delivered by the next command. Delivery has a thread of its own: some of MLflow's stores try for
minutes to connect (mlflow/store/db/utils.py), and a training shall not wait for them.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from configs.run.config import RunConfig
from infra.git.command import head_revision
from infra.mlflow.client import PATIENCE_SECONDS, SILENCE, import_mlflow, tracking_uri, warn
from infra.mlflow.delivery import deliver
from infra.mlflow.machine_metrics import SECONDS_BETWEEN_SAMPLES, sample
from infra.mlflow.outbox import Line, Outbox

SECONDS_BETWEEN_DELIVERIES = 5.0
SECONDS_AFTER_A_FAILURE = 60.0
DELIVERING = threading.Lock()


class Tracker:
    """One MLflow run and its record in `folder`. No fault of MLflow's is ever raised, and only run_id and finish wait
    for it."""

    def __init__(self, folder: Path, opening: tuple[Line, ...] = ()) -> None:
        self.outbox = Outbox(folder)
        self.opening = opening
        self.next_delivery = 0.0
        self.worker = threading.Thread()
        self.writing = threading.RLock()
        self.logged: set[tuple[int, str]] = set()
        self.ended = threading.Event()
        self.kept = f"the record is kept in {self.outbox.record} and delivered by the next command"

    @property
    def run_id(self) -> str | None:
        """None as long as MLflow has not taken the run."""
        if self.opening:
            return self.opening[0].get("resume")
        self.wait()
        return None if any("start" in line for line, _ in self.outbox.left()) else self.outbox.run_id

    def log_params(self, params: Mapping[str, object]) -> None:
        self.append({"params": {key: str(value) for key, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.append({"metrics": metrics, "step": step})

    def log_tags(self, tags: dict[str, str]) -> None:
        """Where the model comes from and where it goes: digests, places."""
        self.append({"tags": tags})

    def log_dataset(self, card: Mapping[str, object]) -> None:
        """`card`: the data card that prepare wrote."""
        self.append({"dataset": card})

    def log_artifacts(self, directory: Path) -> None:
        """Every file of `directory`, under its name; delivered as they are at that time."""
        self.append({"artifacts": str(directory)})

    def finish(self, status: str = "FINISHED") -> None:
        """Delivers what is left, if MLflow can take it. `status`: FINISHED, FAILED or KILLED."""
        self.ended.set()
        self.wait()
        self.next_delivery = 0.0
        self.append({"status": status})
        self.wait()
        if self.worker.is_alive():
            warn(self.kept, SILENCE)

    def append(self, line: Line) -> None:
        """To disk now, to MLflow when the last delivery was some seconds ago. A run begins with its first metrics: what
        is logged before waits for them."""
        with self.writing:
            key = self.opening[0].get("start", {}).get("key") if self.opening else None
            goes_on = key and key == self.outbox.unfinished_key()
            if key and not goes_on and "metrics" not in line:
                self.opening += (line,)
                return
            if goes_on:
                self.logged = self.outbox.logged()
            self.outbox.append(*(() if goes_on else self.opening), *self.unlogged(line))
            self.opening = ()
            if time.monotonic() >= self.next_delivery and not self.worker.is_alive():
                import_mlflow(tracking_uri())
                self.worker = threading.Thread(target=self.deliver, daemon=True)
                self.worker.start()
        if key:
            threading.Thread(target=self.watch_machine, daemon=True).start()

    def unlogged(self, line: Line) -> tuple[Line, ...]:
        """A resumed training repeats the steps since its checkpoint: what was logged of them is not logged twice."""
        if "metrics" not in line:
            return (line,)
        metrics = {name: value for name, value in line["metrics"].items() if (line["step"], name) not in self.logged}
        return (line | {"metrics": metrics},) if metrics else ()

    def watch_machine(self) -> None:
        """System metrics beside the training's own; their step counts samples, as MLflow's does."""
        step = sum(name == "system/cpu_utilization_percentage" for _, name in self.logged)
        while not self.ended.wait(SECONDS_BETWEEN_SAMPLES):
            self.append({"metrics": sample(), "step": step})
            step += 1

    def deliver(self) -> None:
        """However slow MLflow is, it is busy with us a twentieth of the time at most."""
        began, pause = time.monotonic(), SECONDS_BETWEEN_DELIVERIES
        try:
            with DELIVERING:
                deliver(self.outbox)
        except Exception as error:  # whatever MLflow, its store or its absence raises: training goes on
            pause = SECONDS_AFTER_A_FAILURE
            warn(self.kept, error)
        self.next_delivery = time.monotonic() + max(pause, 20 * (time.monotonic() - began))

    def wait(self) -> None:
        if self.worker.is_alive():
            self.worker.join(PATIENCE_SECONDS)


def start_run(config: RunConfig, folder: Path, name: str | None = None, parent: Path | None = None) -> Tracker:
    """The run begins with the first line logged; a killed run of the same training goes on. `parent`: the folder of the
    run that this one is part of."""
    trained = config.model_dump(include={"name", "task", "base", "data", "train"})
    key = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()
    start = {
        "experiment": config.experiment,
        "name": name or config.name,
        "key": key,
        "id": uuid.uuid4().hex,
        "git_revision": head_revision(),
    }
    start |= {"parent": str(parent)} if parent else {}
    return Tracker(folder, ({"start": start}, {"params": flatten(config.model_dump(mode="json"))}))


def resume_run(run_id: str | None, folder: Path) -> Tracker:
    """The run that `folder` records, or the one named: evaluation and gate add to what training began."""
    tracker = Tracker(folder)
    if run_id not in (None, tracker.run_id):
        tracker.opening = ({"resume": run_id},)
    return tracker


def flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """train.lora.rank=16 and its like."""
    parts = [
        flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
        for key, value in config.items()
    ]
    return {key: value for part in parts for key, value in part.items()}
