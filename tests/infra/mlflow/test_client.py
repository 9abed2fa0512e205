"""How MLflow is spoken to: imported late, by one address, its errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import cause_of
from infra.mlflow import client
from tests.paths import ROOT

pytestmark = pytest.mark.unit


def test_importing_tracking_imports_no_mlflow() -> None:
    code = "import sys, infra.mlflow.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_cause_of_finds_what_lies_below() -> None:
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        assert cause_of(error) == "ConnectionRefusedError: [Errno 111] Connection refused"


def test_a_run_on_the_default_store_stays_under_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert client.tracking_uri() == f"sqlite:///{tmp_path}/stores/mlflow.db"


def test_a_server_of_ones_own_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert client.tracking_uri() == "https://mlflow.example"


def test_a_warning_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(client, "WARNED", set())
    for _ in range(3):
        client.warn("kept", OSError("disk\n full"))
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), "OSError: disk full; kept" in said.err) == ("", 1, True)
