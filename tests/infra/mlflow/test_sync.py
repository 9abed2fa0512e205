"""Delivery after the fact: once, whatever was killed at whatever moment, to a real MLflow server on SQLite."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, InputError
from configs.run.config import RunConfig
from infra.mlflow import client, tracking
from infra.mlflow.outbox import Outbox
from infra.mlflow.sync import sync
from tests.paths import ROOT

STEPS = 120
EMPTY: dict[str, Any] = {"name": "late", "experiment": "late", "key": "k", "git_revision": "abc"}


def write_record(root: Path, run: str) -> Outbox:
    """A training that nobody took: three batches of metrics, parameters, data, files, tags and an end."""
    outbox, files = Outbox(root / "build/late/tracking"), root / "eval"
    files.mkdir()
    (files / "metrics.json").write_text("{}")
    card = {"source": "bfcl", "fingerprint": "sha256:ab"}
    metrics = [{"metrics": {"loss": 1 / step, "learning_rate": 1e-3}, "step": step} for step in range(1, STEPS + 1)]
    outbox.append(
        {"start": EMPTY | {"id": run}},
        {"params": {"name": "late"}},
        {"tags": {"tunegate.base_digest": "sha256:ab"}},
        *metrics,
    )
    outbox.append({"dataset": card}, {"artifacts": str(files)}, {"status": "FINISHED"})
    return outbox


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "WARNED", set())
    return tmp_path


@pytest.mark.unit
def test_nothing_recorded_is_nothing_delivered(here: Path) -> None:
    assert sync([]) == []
    with pytest.raises(InputError, match=r"no record in build/never/tracking; expected one of: none"):
        sync(["never"])


@pytest.mark.unit
def test_the_records_of_a_sweep_and_its_trials_belong_to_their_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.mlflow.sync.deliver", lambda _: None)
    for place in ("one/tracking", "one/sweep/tracking", "one/sweep/trial-3/tracking", "two/tracking"):
        Outbox(Path("build") / place).append({"status": "FINISHED"})
    assert [found["name"] for found in sync(["one"])] == ["one/sweep", "one/sweep/trial-3", "one"]
    assert len(sync([])) == 4


@pytest.mark.unit
def test_a_server_that_is_down_keeps_every_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = write_record(here, "down")
    monkeypatch.setattr("infra.mlflow.sync.deliver", lambda _: (_ for _ in ()).throw(ConnectionRefusedError("refused")))
    with pytest.raises(ExternalError, match=rf"refused; {STEPS + 6} of {STEPS + 6} lines of .*metrics.jsonl are left"):
        sync(["late"])
    assert len(list(outbox.left())) == STEPS + 6


@pytest.mark.unit
def test_only_what_is_left_is_delivered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(here, "left")
    monkeypatch.setattr("infra.mlflow.sync.deliver", lambda outbox: outbox.taken(list(outbox.left())[-1][1], "run-7"))
    assert sync([]) == [{"name": "late", "delivered_lines": STEPS + 6, "run_id": "run-7"}]
    assert sync(["late"]) == [{"name": "late", "delivered_lines": 0, "run_id": "run-7"}]


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "MLflow did not start"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A real MLflow server on SQLite that keeps artifacts itself."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}", process)
            yield "127.0.0.1", port
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def between(server: tuple[str, int]) -> Iterator[Callable[[Callable[[str, str], bool]], str]]:
    """A proxy before the server. Where `wanted(method, path)` first says so, the server takes the request and its
    sender is killed before it knows."""
    opened: list[ThreadingHTTPServer] = []

    def make(wanted: Callable[[str, str], bool]) -> str:
        class Between(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None: ...

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                far = http.client.HTTPConnection(*server, timeout=60)
                far.request(
                    self.command,
                    self.path,
                    body,
                    {key: value for key, value in self.headers.items() if key.lower() != "host"},
                )
                reply = far.getresponse()
                content = reply.read()
                if reply.status == 200 and wanted(self.command, self.path):
                    os.kill(victims.pop(), signal.SIGKILL)
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = forward

        opened.append(ThreadingHTTPServer(("127.0.0.1", 0), Between))
        threading.Thread(target=opened[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{opened[-1].server_port}"

    victims: list[int] = []
    make.victims = victims  # type: ignore[attr-defined]
    yield make
    for one in opened:
        one.shutdown()
        one.server_close()


def nth(count: int, part: str) -> Callable[[str, str], bool]:
    seen: list[str] = []

    def wanted(method: str, path: str) -> bool:
        if method != "GET" and part in path:
            seen.append(path)
        return len(seen) == count

    return wanted


KILLS = {
    "the run made": (1, "runs/create"),
    "points": (4, "runs/log-batch"),
    "files": (1, "mlflow-artifacts"),
    "the end": (1, "runs/update"),
}


@pytest.mark.integration
@pytest.mark.parametrize("moment", KILLS)
def test_a_delivery_killed_before_it_knew_is_not_made_twice(
    here: Path, server: tuple[str, int], between: Any, moment: str
) -> None:
    """Requests 1 and 2 of log-batch are parameters and tags, 3 to 5 the points."""
    outbox, run = write_record(here, moment), moment
    command = [sys.executable, "-c", "from infra.mlflow.sync import sync; sync([])"]
    address = between(nth(*KILLS[moment]))
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": address})
    between.victims.append(process.pid)
    assert process.wait(timeout=240) == -signal.SIGKILL
    left = len(list(outbox.left()))
    assert left > 0
    direct = f"http://{server[0]}:{server[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", direct)
        first, second = sync(["late"]), sync(["late"])
        store = client.connect(direct)
        (found,) = store.search_runs(
            [store.get_experiment_by_name("late").experiment_id], f"tags.`tunegate.id` = '{run}'"
        )
        points = {name: store.get_metric_history(found.info.run_id, name) for name in ("loss", "learning_rate")}
        files = store.list_artifacts(found.info.run_id, "eval")
    assert (first[0]["delivered_lines"], second[0]["delivered_lines"]) == (left, 0)
    assert {name: [point.step for point in history] for name, history in points.items()} == {
        name: list(range(1, STEPS + 1)) for name in points
    }
    assert ([file.path for file in files], found.info.status, len(found.inputs.dataset_inputs)) == (
        ["eval/metrics.json"],
        "FINISHED",
        1,
    )
    assert found.data.tags["tunegate.base_digest"] == "sha256:ab"


@pytest.mark.integration
def test_down_while_training_then_up_is_delivered_once(
    here: Path, server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {
        "base": {"package": "x"},
        "data": {"source": "bfcl"},
        "train": {"max_steps": 3},
        "gate": "gate.yaml",
    }
    demo = RunConfig.model_validate({"name": "late", "task": "causal-lm"} | sections)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 3600.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    tracker = tracking.start_run(demo, here / "build/late/tracking")
    for step in range(1, STEPS + 1):
        tracker.log_metrics({"loss": 1 / step}, step)
    tracker.finish()
    assert tracker.run_id is None
    with pytest.raises(ExternalError, match="refused"):
        sync([])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{server[0]}:{server[1]}")
    assert [row["delivered_lines"] for row in (*sync([]), *sync([]))] == [STEPS + 3, 0]
    store = client.connect(client.tracking_uri())
    assert [point.step for point in store.get_metric_history(tracker.run_id, "loss")] == list(range(1, STEPS + 1))
