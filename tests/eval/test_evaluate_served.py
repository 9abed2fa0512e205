"""A GPT release measured through the real vLLM: answers, parity, per-example rows, and nothing asked twice."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from eval.evaluate import evaluate
from tests.paths import ROOT
from tests.support.tiny_release import write_release

pytestmark = pytest.mark.integration


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunConfig, RunPaths]:
    """A run as `quantize` leaves it: a release, and test rows whose gold answers are the model's own, but for the
    last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))
    reference = write_release(tmp_path, "tiny", seed=3)
    name, digest = reference.split("@sha256:")
    paths = RunPaths.of(name)
    paths.root.mkdir(parents=True)
    (tmp_path / "releases" / f"{name}@{digest[:12]}" / "release").rename(paths.release)
    golden = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text(encoding="utf8").splitlines()]
    rows = [
        {
            "id": line["id"],
            "messages": [*line["messages"], {"role": "assistant", "content": "gold"}],
            "reference": line["answer"],
        }
        for line in golden
    ]
    rows[-1]["reference"] = "an answer that this model does not give"
    paths.data.mkdir()
    pandas.DataFrame(rows).to_parquet(paths.data / "test.parquet")
    (paths.data / "data_card.json").write_text('{"test_fingerprint": "sha256:rows"}', encoding="utf8")
    return RunConfig.model_validate(read_manifest(paths.release).config), paths


def test_a_release_is_measured_by_the_server_that_will_serve_it(
    prepared: tuple[RunConfig, RunPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = prepared
    record = evaluate(config, paths)
    assert record["release"] == read_manifest(paths.release).reference and record["n"] == 4
    parity = record["parity"]
    assert parity is not None and parity["agreement"] == 1
    assert parity["difference"] is not None and parity["difference"] < 0.01
    assert record["metrics"]["exact_match"] == 0.75
    predictions = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    assert predictions["correct"].tolist() == [1, 1, 1, 0] and predictions["answer"].str.len().min() > 0

    def no_server(*_: object, **__: object) -> None:
        raise AssertionError("a finished evaluation starts no server")

    monkeypatch.setattr("eval.evaluate.temporary_slot", no_server)
    assert evaluate(config, paths) == record
