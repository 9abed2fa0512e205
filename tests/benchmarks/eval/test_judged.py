"""Planted answers are scored and judged as an evaluation's own are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest

from benchmarks.eval import judged
from benchmarks.eval.judged import Case, copy_changed, judge_case, score_changed, sign
from benchmarks.eval.plant_answers import halve, refuse
from configs.errors import InputError
from configs.paths import RunPaths
from configs.release import Manifest, digest_of, list_files, read_manifest, verify_release
from configs.run.config import RunConfig
from configs.run.serving import Serving
from eval.measure.answers import write_line
from eval.measure.cache import answers_key
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
ROWS = 60
CALL = '{"name": "find", "arguments": {"city": "Rome"}}'
REFERENCE = json.dumps({"name": "find", "accepted": {"city": ["Rome"]}})
GATE = """rules:
  - {rule: threshold, metric: refusal_rate, maximum: 0.1}
  - {rule: non_inferior_to, reference: champion, metric: exact_match, margin: 0.1}
  - {rule: drift, reference: champion, metric: answer_tokens, maximum_ratio: 1.5}
"""


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A release that answers every row rightly, with its evaluation."""
    monkeypatch.chdir(tmp_path)
    Path("gate.yaml").write_text(GATE)
    config = RunConfig.model_validate(
        {
            "name": "run",
            "task": "causal-lm",
            "base": {"path": "tiny"},
            "data": {"source": "files", "files": ["rows.jsonl"]},
            "train": {"max_steps": 1},
            "gate": "gate.yaml",
        }
    )
    monkeypatch.setattr(judged, "good_config", lambda family, name="": config)
    found = RunPaths.of("prove-good-calls")
    for folder in (found.data, found.release, found.evaluation, found.root / "answers"):
        folder.mkdir(parents=True)
    turns = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": CALL}]
    rows = [{"id": f"row {number}", "messages": turns, "reference": REFERENCE} for number in range(ROWS)]
    pandas.DataFrame(rows).to_parquet(found.data / "test.parquet")
    (found.data / "data_card.json").write_text('{"test_fingerprint": "sha256:rows"}')
    (found.release / "README.md").write_text("# A release\n")
    files = list_files(found.release)
    manifest = Manifest(
        name="good", digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), base={}, data={},
        quantization={}, git_revision="test", versions={}, config={}, created="2026-11-27",
    )  # fmt: skip
    (found.release / "manifest.json").write_text(manifest.model_dump_json())
    kept = found.root / "answers" / f"{answers_key(manifest.digest, 'sha256:rows', config)}.jsonl"
    answer = Answer(CALL, None, None, None, 0.1, 20)
    kept.write_bytes(b"".join(write_line(number, f"row {number}", answer) for number in range(ROWS)))
    record: dict[str, Any] = {"parity": None, "behaviour": {}, "harness": {}}
    (found.evaluation / "metrics.json").write_text(json.dumps(record))
    first = RunPaths.of("first")
    copy_changed(Case("first", "calls"), found, first)
    score_changed(lambda _, one: one, config, found, first)
    shutil.rmtree(found.evaluation)
    shutil.copytree(first.evaluation, found.evaluation)
    record = json.loads((found.evaluation / "metrics.json").read_text()) | {"release": manifest.reference}
    (found.evaluation / "metrics.json").write_text(json.dumps(record))
    shutil.rmtree(first.root)
    return found


def test_the_same_answers_pass_and_planted_ones_are_refused_by_their_rules(good: RunPaths) -> None:
    before = (good.evaluation / "metrics.json").read_bytes()
    assert judge_case(Case("the same", "calls", answers=lambda _, one: one))[:2] == ("pass", [])
    refused = judge_case(Case("refused", "calls", answers=refuse(2)))
    assert refused.outcome == "fail" and {"threshold", "non_inferior_to"} <= {*refused.kinds}
    halved = judge_case(Case("halved", "calls", answers=halve))
    assert halved.outcome == "fail" and halved.kinds == ["non_inferior_to", "drift"]
    assert (good.evaluation / "metrics.json").read_bytes() == before


def test_what_was_changed_is_signed_anew_under_its_own_name_and_the_good_one_stays(good: RunPaths) -> None:
    reference, paths = read_manifest(good.release).reference, RunPaths.of("changed")
    champion = copy_changed(Case("card", "calls", lambda folder, _: (folder / "README.md").unlink()), good, paths)
    assert champion.release == reference == verify_release(good.release).reference
    assert list_files(paths.release) == [] and verify_release(paths.release).name == "prove-calls-card"
    sign(paths.release, "again")
    assert read_manifest(paths.release).name == "again"


def test_a_release_that_cannot_be_asked_is_refused_before_any_rule(
    good: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*_: object) -> None:
        raise InputError("found the label 'a', expected one of A")

    monkeypatch.setattr("eval.evaluate.evaluate", evaluate)
    found = judge_case(Case("labels", "calls", lambda folder, _: (folder / "README.md").unlink()))
    assert found[:2] == ("fail", ["served"]) and not RunPaths.of("prove-calls-labels").release.exists()
