"""By folds through the real libraries and the real vLLM: trained, merged, INT8, served, asked what it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

from configs.paths import RunPaths
from configs.release import verify_release
from configs.run.config import RunConfig
from eval.evaluate import evaluate
from eval.gate import run_gate
from tests.paths import ROOT
from tests.train.conftest import write_lines
from train import folds
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.quantize import quantize

pytestmark = pytest.mark.integration
TRACKER = SimpleNamespace(run_id=None, opening=(), log_metrics=lambda *_: None, finish=lambda: None)


def test_rows_to_verdict_by_two_folds(
    classifier: Callable[..., RunConfig], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))
    monkeypatch.setattr(folds, "start_run", lambda *_: TRACKER)
    words = {"good": ("good", "fine"), "bad": ("bad", "poor")}
    rows = [{"text": f"{words[one][place % 2]} film {place}", "label": one} for place in range(32) for one in words]
    write_lines(checkout / "rows.jsonl", rows)
    (checkout / "gate.yaml").write_text("rules: [{rule: threshold, metric: accuracy, minimum: 0.6}]\n")
    settings = {"max_steps": 40, "eval_every_steps": 20}
    config = classifier(evaluate={"folds": 2}, train=settings, serving={"max_model_len": 256})
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    finetune(config, paths, TRACKER)
    release = quantize(config, paths)
    trained: list[str] = []

    def make(run: RunConfig) -> None:
        folds.train_folds(run, paths)
        trained.extend(verify_release(paths.fold(number).release).digest for number in (1, 2))

    record = evaluate(config, paths, None, make)
    assert record["release"] == release.reference and record["n"] == 64
    assert len({release.digest, *trained}) == 3, "three models of other rows"
    assert [one.partition("@")[2] for one in record["folds"]["releases"]] == trained
    assert record["parity"] and record["parity"]["agreement"] >= 0.75, "of the release itself"
    frame = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    assert frame["fold"].value_counts().to_dict() == {"1": 32, "2": 32}
    assert record["metrics"]["accuracy"] == frame["correct"].mean() > 0.8, "one word decides: this can be learned"
    verdict = run_gate(config, paths, None)
    assert verdict.held_out is not None and verdict.held_out.folds == 2
    assert "2 folds" in verdict.results[0].evidence["method"]
    assert verdict.held_out.sentence() in (paths.gate / "report.md").read_text()
    again = evaluate(config, paths, None, make)
    assert again == record and len(trained) == 2, "finished: nobody trains"
