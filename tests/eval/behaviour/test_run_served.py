"""A GPT release's behaviour, a harness task and a judge through the real vLLM; the judge is a second server with the
same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from eval.evaluate import evaluate
from infra.vllm.server import temporary_slot
from tests.paths import ROOT
from tests.support.tiny_release import write_release

pytestmark = pytest.mark.integration
ROWS = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "ROWS"}},
    "test_split": "test",
    "doc_to_text": "{{question}}",
}
GENERATED = {
    "task": "local_words",
    "output_type": "generate_until",
    "doc_to_target": "nothing",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
}
CHOSEN = {"task": "local_choice", "output_type": "multiple_choice", "doc_to_choice": ["yes", "no"], "doc_to_target": 0}


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunConfig, RunPaths]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))
    name, digest = write_release(tmp_path, "tiny", seed=3).split("@sha256:")
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
    paths.data.mkdir()
    pandas.DataFrame(rows).to_parquet(paths.data / "test.parquet")
    (paths.data / "data_card.json").write_text('{"test_fingerprint": "sha256:rows"}', encoding="utf8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "rows.jsonl").write_text('{"question": "some words"}\n{"question": "more words"}\n')
    metric = {"metric_list": [{"metric": "exact_match"}]}
    for task, metrics in ((GENERATED, metric), (CHOSEN, {"metric_list": [{"metric": "acc"}]})):
        text = json.dumps(ROWS | task | metrics).replace('"ROWS"', json.dumps(str(tmp_path / "tasks" / "rows.jsonl")))
        (tmp_path / "tasks" / f"{task['task']}.yaml").write_text(text)
    manifest = read_manifest(paths.release)
    with temporary_slot(paths.release, manifest, served_name="judge", log=tmp_path / "judge.log") as judge_url:
        asked = {
            "behaviour": [
                {"test": "robustness", "perturb": ["typos", "case"], "rate": 1.0},
                {
                    "test": "invariance",
                    "templates": ["{who} is here"],
                    "groups": {"a": ["Ann"], "b": ["Bob"]},
                    "pattern": ".",
                },
                {"test": "abstention", "prompts": ["who knows"], "pattern": "^$"},
            ],
            "judge": {
                "base_url": f"{judge_url}/v1",
                "model": "judge",
                "prompt": "{{ question }} {{ answer }}",
                "scale": [1, 5],
                "max_tokens": 4,
            },
            "harness": [
                {"task": "local_words", "include_path": "tasks"},
                {"task": "local_choice", "include_path": "tasks"},
            ],
        }
        settings = manifest.config["evaluate"] | asked
        yield RunConfig.model_validate(manifest.config | {"evaluate": settings}), paths


def test_behaviour_harness_and_judge_are_measured_by_real_servers(prepared: tuple[RunConfig, RunPaths]) -> None:
    config, paths = prepared
    record = evaluate(config, paths)
    robust = record["behaviour"]["robustness"]
    assert record["metrics"]["exact_match"] == robust["original"] == 1 and robust["n"] == 8
    flipped = robust["flip_rate"]
    assert flipped is not None and flipped > 0.5 and robust["drop"] == flipped, (
        "random weights answer another question otherwise"
    )
    assert record["behaviour"]["invariance"]["gap"] == 0 and record["behaviour"]["abstention"]["drop"] == 1, (
        "no random answer is empty"
    )
    assert record["metrics"]["harness_local_words_exact_match"] == 0 and record["metrics"][
        "harness_local_choice_acc"
    ] in (0, 0.5, 1)
    assert {task: one["n"] for task, one in record["harness"].items()} == {"local_words": 2, "local_choice": 2}
    lines = [json.loads(line) for line in (paths.evaluation / "judge.jsonl").read_text(encoding="utf8").splitlines()]
    assert len(lines) == 4 and all(line["answer"] for line in lines), (
        "a judge of random weights says something, if no score"
    )
    assert record["metrics"]["judge_missing"] == sum(line["score"] is None for line in lines) / 4
    told = pandas.read_parquet(paths.evaluation / "behaviour.parquet")
    assert told["test"].value_counts().to_dict() == {"robustness": 8, "abstention": 5, "invariance": 1}
