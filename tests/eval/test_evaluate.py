"""Measuring once, and only once: what is asked again, what is kept, what is thrown away. The server is a fake at the seam."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import InputError, OutsideError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.schema import RunConfig
from eval import evaluate, parent
from eval.evidence import read_measured
from infra.endpoint import Answer, ParityResult

pytestmark = pytest.mark.unit
WriteRelease, MakeConfig = Callable[..., Manifest], Callable[..., RunConfig]
RUN = RunPaths.of("run")
BASELINE = {"baseline": True}
ANSWER = Answer("good", "good", {"bad": 0.25, "good": 0.75}, None, 0.1, 0)
CONCURRENT = RunConfig.model_fields["evaluate"].default.concurrency


class Server:
    """Says `good` to everything; `asked` holds (manifest digest, row id), `starts` the releases a server was started for."""

    def __init__(self) -> None:
        self.starts: list[Path] = []
        self.asked: list[tuple[str, str]] = []
        self.fails_after = math.inf

    @contextlib.contextmanager
    def temporary_slot(self, release: Path, manifest: Manifest, **settings: Any) -> Iterator[str]:
        self.starts.append(release)
        yield "http://fake"

    async def ask(self, client: Any, url: str, name: str, manifest: Manifest, row: dict[str, Any], **settings: Any) -> Answer:
        if len(self.asked) >= self.fails_after:
            raise OutsideError("killed")
        self.asked.append((manifest.digest, row["id"]))
        await asyncio.sleep(0)
        return ANSWER


@pytest.fixture
def server(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """And a run of six rows, four of them good, whose release is there."""
    fake = Server()
    monkeypatch.setattr(evaluate, "ask", fake.ask)
    monkeypatch.setattr(parent, "ask", fake.ask)
    monkeypatch.setattr(evaluate, "temporary_slot", fake.temporary_slot)
    prepare(["good", "good", "good", "good", "bad", "bad"], "sha256:rows")
    return fake


def prepare(labels: list[str], fingerprint: str) -> None:
    RUN.data.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"row-{number}", "text": f"film {number}", "label": label} for number, label in enumerate(labels)]
    pandas.DataFrame(rows, columns=["id", "text", "label"]).to_parquet(RUN.data / "test.parquet")
    (RUN.data / "data_card.json").write_text(json.dumps({"test_fingerprint": fingerprint}))


def stored(folder: Path = RUN.evaluation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_a_release_is_measured_once(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    manifest = write_release(RUN.release)
    record = evaluate.evaluate(config(), RUN)
    assert record == stored() and record["metrics"]["accuracy"] == pytest.approx(4 / 6)
    assert (record["release"], record["dataset"], record["n"], record["size_bytes"]) == (manifest.reference, "sha256:rows", 6, len(b"weights"))
    measured = read_measured(RUN.evaluation)
    assert measured is not None and measured.columns["correct"] == {f"row-{number}": float(number < 4) for number in range(6)}
    assert sorted(server.asked) == [(manifest.digest, f"row-{number}") for number in range(6)]
    assert evaluate.evaluate(config(), RUN) == record and server.starts == [RUN.release], "finished: no second server"


def test_whatever_the_answers_depend_on_is_measured_again(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    def measured_again(changed: RunConfig) -> bool:
        before = len(server.starts)
        reference = evaluate.evaluate(changed, RUN)["release"]
        assert reference == stored()["release"] == write_release.__call__(RUN.release, weights=(RUN.release / "model.safetensors").read_bytes()).reference
        return len(server.starts) > before

    write_release(RUN.release)
    assert measured_again(config()) and not measured_again(config())
    write_release(RUN.release, weights=b"others")
    assert measured_again(config()), "other bytes"
    prepare(["good"] * 6, "sha256:other rows")
    assert measured_again(config()) and stored()["metrics"]["accuracy"] == 1, "other rows"
    for settings_of_evaluate in ({"max_new_tokens": 7}, {"concurrency": 3}, {"parity": {"min_agreement": 1}}):
        assert measured_again(config(evaluate=settings_of_evaluate)), settings_of_evaluate
    assert not measured_again(config(evaluate={"parity": {"min_agreement": 1}}, gate="other.yaml"))


@pytest.mark.parametrize("lost", ["metrics.json", "predictions.parquet"])
def test_half_an_evaluation_is_finished_from_the_answers_on_disk(server: Server, config: MakeConfig, write_release: WriteRelease, lost: str) -> None:
    write_release(RUN.release)
    record = evaluate.evaluate(config(), RUN)
    (RUN.evaluation / lost).unlink()
    assert evaluate.evaluate(config(), RUN) == record and len(server.starts) == 2 and len(server.asked) == 6


def test_a_killed_evaluation_asks_nothing_twice(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    write_release(RUN.release)
    slow, server.fails_after = config(evaluate={"concurrency": 1}), 3
    with pytest.raises(OutsideError, match="killed"):
        evaluate.evaluate(slow, RUN)
    assert len(server.asked) == 3 and read_measured(RUN.evaluation) is None
    (cache,) = RUN.evaluation.glob("answers-*.jsonl")
    with cache.open("a") as stream:
        stream.write('{"id": "row-5", "answ')
    server.fails_after = math.inf
    evaluate.evaluate(slow, RUN)
    assert sorted(row for _, row in server.asked) == [f"row-{number}" for number in range(6)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400))
def test_a_torn_cache_keeps_its_whole_lines(tmp_path: Path, cut: int) -> None:
    lines = [evaluate.cache_line(f"é{number}", replace(ANSWER, text=f"\u2028{number}\n")) for number in range(2)]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(lines)[:cut])
    whole = {f"é{number}": replace(ANSWER, text=f"\u2028{number}\n") for number in range(2) if cut >= len("".join(lines[: number + 1])) - 1}
    assert evaluate.read_cache(path) == whole
    assert path.read_text() == "".join(lines[: len(whole)]), "a torn line is not left for the next one to be joined to"


def test_metrics_are_written_last_of_all(server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    write_release(RUN.release)
    evaluate.evaluate(config(), RUN)
    write_release(RUN.release, weights=b"others")
    seen: list[tuple[str, bool]] = []

    def record_replace(source: Path, target: Path) -> None:
        os.rename(source, target)
        seen.append((Path(target).name, (RUN.evaluation / "metrics.json").exists()))

    monkeypatch.setattr(evaluate.os, "replace", record_replace)
    evaluate.evaluate(config(), RUN)
    assert seen[-2:] == [("predictions.parquet", False), ("metrics.json", True)], "new predictions never stand beside old metrics"


def test_base_and_parent_lie_beside_the_release_and_go_with_the_config(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    write_release(RUN.release)
    write_release(RUN.parent, name="unquantized", weights=b"twice as large")
    base = write_release(Path("build/base/tiny"), name="tiny", weights=b"base")
    record = evaluate.evaluate(config(evaluate=BASELINE), RUN)
    assert record == stored() and record["metrics"]["parent_accuracy"] == record["metrics"]["accuracy"]
    assert record["metrics"]["size_ratio"] == len(b"weights") / len(b"twice as large")
    assert record["metrics"]["parent_agreement"] == 1 and record["metrics"]["parent_kl_divergence"] == 0 and record["metrics"]["accuracy_change"] == 0
    assert f"# {record['release']}" in (RUN.evaluation / "card.md").read_text()
    assert stored(RUN.evaluation / "parent")["release"].startswith("unquantized@")
    assert stored(RUN.evaluation / "base")["release"] == base.reference and read_measured(RUN.evaluation / "base") is not None
    assert server.starts == [RUN.release, RUN.parent, Path("build/base/tiny")]
    assert evaluate.evaluate(config(evaluate=BASELINE), RUN) == record and len(server.starts) == 3
    for file in [*RUN.parent.iterdir()]:
        file.unlink()
    RUN.parent.rmdir()
    evaluate.evaluate(config(), RUN)
    assert not (RUN.evaluation / "parent").exists() and not (RUN.evaluation / "base").exists(), "no earlier run's reference is left for the gate"
    assert not (RUN.evaluation / "card.md").exists() and not any("parent" in name for name in stored()["metrics"])


def test_the_base_is_measured_once_for_all_runs_on_the_same_rows(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    other = RunPaths.of("other")
    write_release(Path("build/base/tiny"), name="tiny", weights=b"base")
    for paths in (RUN, other):
        write_release(paths.release)
    other.data.symlink_to(RUN.data.absolute())
    for paths in (RUN, other):
        evaluate.evaluate(config(evaluate=BASELINE), paths)
    assert server.starts.count(Path("build/base/tiny")) == 1
    assert stored(other.evaluation / "base") == stored(RUN.evaluation / "base")


def test_another_release_is_measured_where_it_is_told_and_alone(server: Server, config: MakeConfig, write_release: WriteRelease, tmp_path: Path) -> None:
    champion = write_release(Path("releases/old/release"), name="old", weights=b"old")
    record = evaluate.evaluate(config(evaluate=BASELINE), RUN, release=Path("releases/old/release"), output=tmp_path / "there")
    assert record["release"] == champion.reference == stored(tmp_path / "there")["release"]
    assert server.starts == [Path("releases/old/release")] and not RUN.evaluation.exists()


@pytest.mark.parametrize("difference", [0.01, math.inf, math.nan])
def test_parity_stands_in_the_record_and_is_valid_json(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    monkeypatch.setattr(evaluate, "check_parity", lambda *arguments: ParityResult(0.5, difference, 2, False))
    RUN.release.mkdir(parents=True)
    (RUN.release / "golden.jsonl").write_text("{}\n")
    write_release(RUN.release)
    expected = {"agreement": 0.5, "difference": difference if math.isfinite(difference) else None, "prompts": 2, "passed": False}
    assert evaluate.evaluate(config(), RUN)["parity"] == stored()["parity"] == expected
    json.loads((RUN.evaluation / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_nothing_is_measured_without_rows_or_on_wrong_bytes(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    with pytest.raises(InputError, match="not a release"):
        evaluate.evaluate(config(), RUN)
    write_release(RUN.release)
    for rows in ([], [{"id": "x"}, {"id": "x"}]):
        pandas.DataFrame(rows, columns=["id"]).to_parquet(RUN.data / "test.parquet")
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
