"""A run of a few rows to be measured, and a server that counts what it is asked: a fake at the seam, as is the artifact
store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.errors import ExternalError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.run.config import RunConfig
from eval import evaluate
from eval.measure import answers, cache, parent
from infra.dvc.evaluations import EVALUATION_FILES
from infra.vllm.answer import Answer

WriteRelease = Callable[..., Manifest]
MakeConfig = Callable[..., RunConfig]
RUN = RunPaths.of("run")
ANSWER = Answer("good", "good", {"bad": 0.25, "good": 0.75}, None, 0.1, 0)


class Server:
    """Says `good` to everything; `asked` holds (manifest digest, row id), `starts` the releases a server was started
    for."""

    def __init__(self) -> None:
        self.starts: list[Path] = []
        self.asked: list[tuple[str, str]] = []
        self.fails_after = math.inf

    @contextlib.contextmanager
    def temporary_slot(self, release: Path, manifest: Manifest, **settings: Any) -> Iterator[str]:
        self.starts.append(release)
        yield "http://fake"

    async def ask(
        self, client: Any, url: str, name: str, manifest: Manifest, row: dict[str, Any], **settings: Any
    ) -> Answer:
        if len(self.asked) >= self.fails_after:
            raise ExternalError("killed")
        self.asked.append((manifest.digest, row["id"]))
        await asyncio.sleep(0)
        return ANSWER


@pytest.fixture
def server(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """At the seams, and a run of six rows, four of them good, whose release is there; the artifact store is the folder
    `store`."""
    fake = Server()
    monkeypatch.setattr(answers, "ask", fake.ask)
    monkeypatch.setattr(cache, "keep_evaluation", lambda key, folder: copy_files(folder, Path("store") / key))
    monkeypatch.setattr(cache, "find_evaluation", lambda key, folder: copy_files(Path("store") / key, folder))
    monkeypatch.setattr(parent, "ask", fake.ask)
    monkeypatch.setattr(evaluate, "temporary_slot", fake.temporary_slot)
    prepare(["good", "good", "good", "good", "bad", "bad"], "sha256:rows")
    return fake


def copy_files(source: Path, target: Path) -> bool:
    target.mkdir(parents=True, exist_ok=True)
    for name in EVALUATION_FILES if source.exists() else ():
        (target / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return source.exists()


def prepare(labels: list[str], fingerprint: str) -> None:
    RUN.data.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"row-{number}", "text": f"film {number}", "label": label} for number, label in enumerate(labels)]
    pandas.DataFrame(rows, columns=["id", "text", "label"]).to_parquet(RUN.data / "test.parquet")
    (RUN.data / "data_card.json").write_text(json.dumps({"test_fingerprint": fingerprint}))


def stored(folder: Path = RUN.evaluation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found
