"""Tracking where MLflow does not answer, or too slowly: that costs a training nothing but a warning."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError
from infra.mlflow import client, tracking
from infra.mlflow.outbox import Outbox
from infra.mlflow.registry import register, set_champion
from infra.mlflow.tracking import resume_run, start_run
from tests.support.mlflow_store import config, here, manifest, mlflow, steps, store

__all__ = ["here", "mlflow", "store"]


@pytest.fixture
def down(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server whose port is closed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture
def hung(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes the connection and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        yield uri


@pytest.mark.integration
def test_mlflow_down_costs_a_training_nothing(
    down: str, store: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = start_run(config("down"), here / "tracking")
    began = time.monotonic()
    for step in range(1, 501):
        tracker.log_metrics({"loss": 1 / step}, step)
    tracker.finish()
    assert time.monotonic() - began < 10
    assert tracker.run_id is None
    said = capsys.readouterr()
    assert (said.out, said.err.count("warning:")) == ("", 1)
    assert "Connection refused" in said.err and "metrics.jsonl" in said.err
    assert [line["step"] for line, _ in Outbox(here / "tracking").lines() if "metrics" in line] == list(range(1, 501))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    later = resume_run(None, here / "tracking")
    later.log_metrics({"exact_match": 0.5}, 0)
    assert steps(client.connect(store), later.run_id, "loss") == list(range(1, 501))


@pytest.mark.integration
def test_a_run_that_mlflow_has_not_taken_has_not_the_last_ones_id(
    mlflow: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = start_run(config("taken"), here / "tracking")
    taken.log_metrics({"loss": 1.0}, 1)
    assert taken.run_id is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    lost = start_run(config("taken", max_steps=4), here / "tracking")
    lost.log_metrics({"loss": 1.0}, 1)
    assert lost.run_id is None


@pytest.mark.integration
def test_a_database_that_cannot_be_opened_holds_nothing_up(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow itself tries a database for 100 seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    for module in (client, tracking):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    tracker, began = start_run(config("database"), here / "tracking"), time.monotonic()
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert time.monotonic() - began < 5
    assert tracker.run_id is None
    assert "warning: MLflow" in capsys.readouterr().err


@pytest.mark.integration
def test_a_server_that_never_answers_holds_nothing_up(
    hung: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (client, tracking):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    tracker = start_run(config("hung"), here / "tracking")
    began = time.monotonic()
    for step in range(1, 200):
        tracker.log_metrics({"loss": 1.0}, step)
    tracker.finish()
    assert register(manifest("hung", "8"), here, None) is None
    assert time.monotonic() - began < 2
    assert len(list(tracker.outbox.lines())) == 2 + 199 + 1
    assert capsys.readouterr().err.count("no answer yet") == 2


@pytest.mark.unit
def test_a_slow_server_gets_a_twentieth_of_the_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Outbox] = []

    def slow(outbox: Outbox) -> None:
        calls.append(outbox)
        time.sleep(0.05)

    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
    monkeypatch.setattr(tracking, "deliver", slow)
    tracker, began = start_run(config("slow"), here / "tracking"), time.monotonic()
    while time.monotonic() - began < 1.5:
        tracker.log_metrics({"loss": 1.0}, 1)
        time.sleep(0.001)
    assert 1 <= len(calls) <= 2


@pytest.mark.integration
def test_registry_down_is_a_warning(down: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert register(manifest("x", "7"), here, None) is None
    set_champion(manifest("x", "7"))
    assert capsys.readouterr().err.count("Connection refused") == 2


@pytest.mark.integration
def test_a_base_in_an_mlflow_that_is_down_is_an_outside_error(down: str, here: Path) -> None:
    with pytest.raises(ExternalError, match=r"base\.mlflow: models:/calls/3 at http.*refused"):
        client.download_model("models:/calls/3", here / "downloads")
