"""A checkout of the test's own, releases of a few bytes, and evaluations in the form that `eval.evaluate` leaves them
in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest, digest_of, list_files
from configs.run.config import RunConfig
from configs.run.serving import Serving


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    """Of a classifier; takes whole sections."""
    sections = {
        "name": "run",
        "task": "sequence-classification",
        "base": {"path": "tiny"},
        "data": {"source": "files", "files": ["rows.jsonl"]},
        "train": {"max_steps": 1},
        "gate": "gate.yaml",
    }
    return lambda **changes: RunConfig.model_validate(sections | changes)


@pytest.fixture
def write_release() -> Callable[..., Manifest]:
    def write(folder: Path, name: str = "run", weights: bytes = b"weights", **fields: Any) -> Manifest:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(weights)
        files = list_files(folder)
        known = {
            "name": name,
            "digest": digest_of(files),
            "task": "sequence-classification",
            "files": files,
            "serving": Serving(),
            "labels": ["bad", "good"],
        }
        empty: dict[str, Any] = {
            "base": {},
            "data": {},
            "quantization": {},
            "git_revision": "test",
            "versions": {},
            "config": {},
            "created": "2026-11-24",
        }
        manifest = Manifest.model_validate(known | empty | fields)
        (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
        return manifest

    return write


@pytest.fixture
def write_measured() -> Callable[..., Path]:
    def write(folder: Path, reference: str, outcomes: dict[str, float], dataset: str = "rows-1", **record: Any) -> Path:
        """`outcomes`: right or wrong by id; every gold label is `good`."""
        import pandas

        folder.mkdir(parents=True, exist_ok=True)
        answers = ["good" if right else "bad" for right in outcomes.values()]
        frame = pandas.DataFrame(
            {"id": list(outcomes), "gold": "good", "answer": answers, "correct": list(outcomes.values())}
        )
        frame.to_parquet(folder / "predictions.parquet")
        metrics = {"accuracy": sum(outcomes.values()) / len(outcomes)}
        (folder / "metrics.json").write_text(
            json.dumps({"release": reference, "dataset": dataset, "metrics": metrics, "parity": None} | record)
        )
        return folder

    return write
