"""Measuring only once: what is asked again, what is kept, what is found elsewhere. The server is a fake at the seam."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas
import pytest

from configs.errors import ExternalError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from eval import evaluate
from eval.measure import cache
from eval.rules.evidence import read_measured
from tests.support.measuring import RUN, MakeConfig, Server, WriteRelease, prepare, server, stored

__all__ = ["server"]
pytestmark = pytest.mark.unit


def forget() -> None:
    """As on another day: what this machine and the store hold of evaluations is gone, but for the answers."""
    for folder in (RUN.evaluation, Path("store")):
        shutil.rmtree(folder, ignore_errors=True)


def test_whatever_the_answers_depend_on_is_measured_again(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    def measured_again(changed: RunConfig) -> bool:
        before = len(server.starts)
        reference = evaluate.evaluate(changed, RUN)["release"]
        assert (
            reference
            == stored()["release"]
            == write_release(RUN.release, weights=(RUN.release / "model.safetensors").read_bytes()).reference
        )
        return len(server.starts) > before

    write_release(RUN.release)
    assert measured_again(config()) and not measured_again(config())
    write_release(RUN.release, weights=b"others")
    assert measured_again(config()), "other bytes"
    prepare(["good"] * 6, "sha256:other rows")
    assert measured_again(config()) and stored()["metrics"]["accuracy"] == 1, "other rows"
    changes = (
        {"max_new_tokens": 7},
        {"concurrency": 3},
        {"parity": {"min_agreement": 1}},
        {"minimum_slice": 2},
        {"slices": [{"by": "label"}]},
    )
    for settings_of_evaluate in (*changes, {"normalize": "squad"}):
        assert measured_again(config(evaluate=settings_of_evaluate)), settings_of_evaluate
    assert not measured_again(config(evaluate={"parity": {"min_agreement": 1}, "baseline": False}, gate="other.yaml"))


def test_what_only_counts_otherwise_asks_nothing_again(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    write_release(RUN.release)
    plain = evaluate.evaluate(config(), RUN)
    cut = evaluate.evaluate(config(evaluate={"minimum_slice": 2}), RUN)
    assert len(server.asked) == 6 and plain["slices"] == {} and cut["metrics"] == plain["metrics"]
    assert cut["slices"]["label=bad"]["n"] == 2 and cut["slices"]["label=good"]["accuracy"] == 1
    frame = pandas.read_parquet(RUN.evaluation / "predictions.parquet")
    assert [list(names) for names in frame["slices"]] == [["label=good"]] * 4 + [["label=bad"]] * 2
    assert cut["classes"]["good"] == {"precision": pytest.approx(4 / 6), "recall": 1, "f1": pytest.approx(0.8), "n": 4}
    seconds = dict.fromkeys(("latency_mean_seconds", "latency_p50_seconds", "latency_p95_seconds"), 0.1)
    assert cut["cost"] == pytest.approx(seconds | {"size_bytes": len(b"weights")}), (
        "tokens and memory were not measured: they are absent"
    )
    evaluate.evaluate(config(evaluate={"max_new_tokens": 7}), RUN)
    assert len(server.asked) == 12


def test_a_schema_is_known_by_what_it_says(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    manifest = write_release(RUN.release)
    keys = []
    for text in ("{}", '{"type": "object"}'):
        Path("s.json").write_text(text)
        keys.append(
            cache.evaluation_key(
                manifest.digest, "sha256:rows", config(task="causal-lm", evaluate={"json_schema": "s.json"})
            )
        )
    assert len({*keys}) == 2


@pytest.mark.parametrize("lost", ["metrics.json", "predictions.parquet"])
def test_half_an_evaluation_is_finished_from_the_answers_on_disk(
    server: Server, config: MakeConfig, write_release: WriteRelease, lost: str
) -> None:
    write_release(RUN.release)
    record = evaluate.evaluate(config(), RUN)
    shutil.rmtree("store")
    (RUN.evaluation / lost).unlink()
    assert evaluate.evaluate(config(), RUN) == record and len(server.starts) == 2 and len(server.asked) == 6


def test_a_killed_evaluation_asks_nothing_twice(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    write_release(RUN.release)
    slow, server.fails_after = config(evaluate={"concurrency": 1}), 3
    with pytest.raises(ExternalError, match="killed"):
        evaluate.evaluate(slow, RUN)
    assert len(server.asked) == 3 and read_measured(RUN.evaluation) is None
    forget()
    (cache,) = (RUN.root / "answers").glob("*.jsonl")
    with cache.open("a") as stream:
        stream.write('{"row": 5, "id": "row-5", "answ')
    server.fails_after = math.inf
    record = evaluate.evaluate(slow, RUN)
    assert sorted(row for _, row in server.asked) == [f"row-{number}" for number in range(6)] and record["metrics"][
        "accuracy"
    ] == pytest.approx(4 / 6)


@pytest.mark.parametrize("gone", ["nothing", "eval"])
def test_the_same_bytes_under_another_name_are_not_measured_again(
    server: Server, config: MakeConfig, write_release: WriteRelease, gone: str
) -> None:
    """Found in another run's folder, or in the store where that is gone."""
    first = write_release(RUN.release)
    record, other = evaluate.evaluate(config(), RUN), RunPaths.of("renamed")
    if gone == "eval":
        shutil.rmtree(RUN.evaluation)
    other.data.parent.mkdir()
    other.data.symlink_to(RUN.data.absolute())
    renamed = write_release(other.release, name="renamed")
    assert renamed.digest == first.digest
    assert (
        evaluate.evaluate(config(name="renamed"), other)
        == record | {"release": renamed.reference}
        == stored(other.evaluation)
    )
    assert len(server.starts) == 1 and read_measured(other.evaluation) is not None


def test_a_store_that_does_not_answer_costs_a_measurement_and_no_more(
    server: Server,
    config: MakeConfig,
    write_release: WriteRelease,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def down(key: str, folder: Path) -> bool:
        raise ExternalError("DVC: down")

    for name in ("keep_evaluation", "find_evaluation"):
        monkeypatch.setattr(cache, name, down)
    write_release(RUN.release)
    assert evaluate.evaluate(config(), RUN)["n"] == 6 and capsys.readouterr().err.count("DVC: down") == 2
