"""One measurement: its record, its parity, the order in which it is written, what is refused. The server is a fake at
the seam."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.errors import InputError, RefusedError
from configs.release import Manifest
from eval import evaluate
from eval.measure import answers
from eval.rules.evidence import read_measured
from infra.vllm.parity import ParityResult
from tests.support.measuring import RUN, MakeConfig, Server, WriteRelease, prepare, server, stored

__all__ = ["server"]
pytestmark = pytest.mark.unit


def test_a_release_is_measured_once(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    manifest = write_release(RUN.release)
    record = evaluate.evaluate(config(), RUN)
    assert record == stored() and record["metrics"]["accuracy"] == pytest.approx(4 / 6)
    assert (record["release"], record["dataset"], record["n"], record["size_bytes"]) == (
        manifest.reference,
        "sha256:rows",
        6,
        len(b"weights"),
    )
    measured = read_measured(RUN.evaluation)
    assert measured is not None and measured.frame is not None
    assert dict(zip(measured.frame["id"], measured.frame["correct"], strict=True)) == {
        f"row-{number}": float(number < 4) for number in range(6)
    }
    assert sorted(server.asked) == [(manifest.digest, f"row-{number}") for number in range(6)]
    assert evaluate.evaluate(config(), RUN) == record and server.starts == [RUN.release], "finished: no second server"


def test_samples_stand_beside_the_predictions_with_what_rows_share_and_a_metric_of_ones_own(
    server: Server, config: MakeConfig, write_release: WriteRelease, checkout: Path
) -> None:
    manifest = write_release(RUN.release)
    rows = pandas.read_parquet(RUN.data / "test.parquet")
    rows["kept"] = [json.dumps({"film": f"film {place // 2}"}) for place in range(len(rows))]
    rows.to_parquet(RUN.data / "test.parquet")
    (checkout / "checks.py").write_text(
        "def short(row, answer):\n    return len(answer) < 9 and row['id'] != 'row-0'\n"
    )
    metric = {"name": "short", "python": "checks:short", "range": [0, 1], "binary": True}
    settings = {
        "cluster": "film",
        "groups": ["film"],
        "metrics": [metric],
        "behaviour": [{"test": "robustness", "perturb": ["case", "typos"], "rows": 3}],
    }
    data = {"source": "files", "files": ["rows.jsonl"], "keep": ["film"]}
    record = evaluate.evaluate(config(data=data, evaluate=settings), RUN)
    assert record["metrics"]["custom:short"] == pytest.approx(5 / 6)
    assert record["definitions"]["custom:short"]["kind"] == "binary"
    measured = read_measured(RUN.evaluation)
    assert measured is not None and measured.samples is not None and measured.frame is not None
    samples = measured.samples
    right = samples[(samples["source"] == "test") & (samples["metric"] == "accuracy")]
    assert dict(zip(right["id"], right["value"], strict=True)) == {f"row-{i}": float(i < 4) for i in range(6)}
    assert [*right["cluster"]] == [*measured.frame["cluster"]] == [f"film {place // 2}" for place in range(6)]
    assert [*measured.frame["group:film"]] == [*measured.frame["cluster"]]
    seconds = samples[samples["metric"] == "latency_seconds"]
    assert len(seconds) == 6 and record["metrics"]["latency_seconds"] == pytest.approx(0.1)
    assert "prompt_tokens" not in record["metrics"], "the server counted none"
    pairs = samples[samples["source"].str.startswith("behaviour:")]
    assert {*pairs["source"]} == {"behaviour:robustness:case", "behaviour:robustness:typos"}
    assert {*pairs["metric"]} == {"original", "changed", "flipped"} and len(pairs) == 2 * 3 * 3
    assert pairs["cluster"].str.startswith("film ").all()
    assert evaluate.evaluate(config(data=data, evaluate=settings), RUN) == record and len(server.starts) == 1
    (checkout / "checks.py").write_text("def short(row, answer):\n    return 0\n")
    again = evaluate.evaluate(config(data=data, evaluate=settings), RUN)
    assert again["metrics"]["custom:short"] == 0 and len(server.starts) == 2, "another source is another evaluation"
    with pytest.raises(InputError, match=r"row row-0 has no 'user'"):
        evaluate.evaluate(config(data=data | {"keep": ["film", "user"]}, evaluate={"cluster": "user"}), RUN)
    with pytest.raises(InputError, match=r"evaluate.groups: row row-0 has no 'user'"):
        evaluate.evaluate(config(data=data | {"keep": ["film", "user"]}, evaluate={"groups": ["user"]}), RUN)
    assert manifest.reference == record["release"]


def test_each_wait_is_told(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(RUN.release)
    told: list[tuple[str, float | None]] = []

    def waiting(what: str, usual_seconds: float | None = None) -> contextlib.AbstractContextManager[None]:
        told.append((what, usual_seconds))
        return contextlib.nullcontext()

    monkeypatch.setattr(evaluate, "waiting", waiting)
    evaluate.evaluate(config(), RUN)
    assert [what for what, _ in told] == [
        "the bytes of build/run/release are checked",
        "vLLM starts",
        "the answers are scored",
        "the figures are counted",
    ]
    assert dict(told)["vLLM starts"] == evaluate.START_SECONDS


def test_metrics_are_written_last_of_all(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(RUN.release)
    evaluate.evaluate(config(), RUN)
    write_release(RUN.release, weights=b"others")
    seen: list[tuple[str, bool]] = []

    def record_replace(source: Path, target: Path) -> None:
        os.rename(source, target)
        seen.append((Path(target).name, (RUN.evaluation / "metrics.json").exists()))

    monkeypatch.setattr(os, "replace", record_replace)
    evaluate.evaluate(config(), RUN)
    order = [one for one in seen if one[0] in ("predictions.parquet", "metrics.json")]
    assert order[:2] == [("predictions.parquet", False), ("metrics.json", True)], (
        "new predictions never stand beside old metrics"
    )


@pytest.mark.parametrize("difference", [0.01, math.inf, math.nan])
def test_parity_stands_in_the_record_and_is_valid_json(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr(evaluate, "check_parity", lambda *arguments: ParityResult(0.5, difference, 2, False))
    RUN.release.mkdir(parents=True)
    (RUN.release / "golden.jsonl").write_text("{}\n")
    write_release(RUN.release)
    expected = {
        "agreement": 0.5,
        "difference": difference if math.isfinite(difference) else None,
        "prompts": 2,
        "passed": False,
    }
    assert evaluate.evaluate(config(), RUN)["parity"] == stored()["parity"] == expected
    json.loads(
        (RUN.evaluation / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )


def test_nothing_is_measured_without_rows_or_on_wrong_bytes(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    with pytest.raises(InputError, match="not a release"):
        evaluate.evaluate(config(), RUN)
    write_release(RUN.release)
    for rows in ([], [{"id": "x"}, {"id": "x"}]):
        pandas.DataFrame(rows, columns=["id"], dtype=str).to_parquet(RUN.data / "test.parquet")
        with pytest.raises(InputError, match="no rows, or ids that repeat"):
            evaluate.evaluate(config(), RUN)
    for name in ("test.parquet", "data_card.json"):
        (RUN.data / name).unlink()
        with pytest.raises(InputError, match="tunegate prepare"):
            evaluate.evaluate(config(), RUN)
    prepare(["good"], "sha256:rows")
    (RUN.release / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(RefusedError, match="do not match"):
        evaluate.evaluate(config(), RUN)
    assert server.starts == [] and not (RUN.evaluation / "metrics.json").exists()


def test_rows_are_encoded_by_the_batch_and_only_those_that_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []

    def with_tokens(
        manifest: Manifest, release: Path, rows: list[dict[str, Any]], *, references: bool
    ) -> list[dict[str, Any]]:
        seen.append((len(rows), references))
        return [row | {"input_ids": [1]} for row in rows]

    monkeypatch.setattr(answers, "with_tokens", with_tokens)
    monkeypatch.setattr(answers, "BATCH_ROWS", 4)
    numbered = ((number, {"id": str(number)}) for number in range(20) if number % 2)
    no_fields: Any = {}
    manifest = Manifest.model_construct(**no_fields)
    found = list(answers.encoded(manifest, Path("r"), numbered, references=True))
    assert [number for number, _ in found] == list(range(1, 20, 2)) and all(row["input_ids"] == [1] for _, row in found)
    assert seen == [(4, True), (4, True), (2, True)]
