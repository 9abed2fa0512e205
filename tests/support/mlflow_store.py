"""A real MLflow store in a file, and the configs and manifests that tests log to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from configs.rows.data import Data
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.training.train import Train
from infra.mlflow import client, tracking


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place, where nothing was warned of yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "WARNED", set())
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 3600.0)
    return tmp_path


@pytest.fixture
def mlflow(here: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the store that MLFLOW_TRACKING_URI names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return client.connect(store)


def config(name: str = "demo", **train: Any) -> RunConfig:
    settings = Train(max_steps=train.pop("max_steps", 3), **train)
    rest: dict[str, Any] = {
        "base": BaseWeights(package="x"),
        "data": Data(source="bfcl"),
        "gate": "gate.yaml",
        "experiment": f"tests-{name}",
    }
    return RunConfig(name=name, task="causal-lm", train=settings, **rest)


def manifest(name: str, digit: str, production: str = "local") -> Manifest:
    facts: dict[str, Any] = {
        "files": [],
        "base": {},
        "data": {},
        "quantization": {},
        "versions": {},
        "created": "2026-11-24",
        "git_revision": "abc123",
    }
    return Manifest(
        name=name,
        digest=f"sha256:{digit * 64}",
        task="causal-lm",
        serving=Serving(),
        config={"production": production},
        **facts,
    )


def steps(client: Any, run_id: str | None, metric: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, metric)]
