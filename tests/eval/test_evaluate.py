"""Measuring once, and only once: what is asked again, what is kept, what is thrown away. The server is a fake at the seam."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.deploy import DeployConfig
from configs.errors import InputError, OutsideError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.schema import RunConfig
from eval import answers, evaluate, finished, parent, references
from eval.evidence import gather, read_measured
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
    """And a run of six rows, four of them good, whose release is there; the artifact store is the folder `store`."""
    fake = Server()
    monkeypatch.setattr(answers, "ask", fake.ask)
    monkeypatch.setattr(finished, "keep_evaluation", lambda key, folder: copy_files(folder, Path("store") / key))
    monkeypatch.setattr(finished, "find_evaluation", lambda key, folder: copy_files(Path("store") / key, folder))
    monkeypatch.setattr(parent, "ask", fake.ask)
    monkeypatch.setattr(evaluate, "temporary_slot", fake.temporary_slot)
    prepare(["good", "good", "good", "good", "bad", "bad"], "sha256:rows")
    return fake


def copy_files(source: Path, target: Path) -> bool:
    target.mkdir(parents=True, exist_ok=True)
    for name in finished.EVALUATION_FILES if source.exists() else ():
        (target / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    return source.exists()


def forget() -> None:
    """As on another day: what this machine and the store hold of evaluations is gone, but for the answers."""
    for folder in (RUN.evaluation, Path("store")):
        shutil.rmtree(folder, ignore_errors=True)


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
    assert measured is not None and measured.frame is not None
    assert dict(zip(measured.frame["id"], measured.frame["correct"], strict=True)) == {f"row-{number}": float(number < 4) for number in range(6)}
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
    changes = ({"max_new_tokens": 7}, {"concurrency": 3}, {"parity": {"min_agreement": 1}}, {"minimum_slice": 2}, {"slices": [{"by": "label"}]})
    for settings_of_evaluate in (*changes, {"normalize": "squad"}):
        assert measured_again(config(evaluate=settings_of_evaluate)), settings_of_evaluate
    assert not measured_again(config(evaluate={"parity": {"min_agreement": 1}, "baseline": False}, gate="other.yaml"))


def test_what_only_counts_otherwise_asks_nothing_again(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    write_release(RUN.release)
    plain = evaluate.evaluate(config(), RUN)
    cut = evaluate.evaluate(config(evaluate={"minimum_slice": 2}), RUN)
    assert len(server.asked) == 6 and plain["slices"] == {} and cut["metrics"] == plain["metrics"]
    assert cut["slices"]["label=bad"]["n"] == 2 and cut["slices"]["label=good"]["accuracy"] == 1
    frame = pandas.read_parquet(RUN.evaluation / "predictions.parquet")
    assert [list(names) for names in frame["slices"]] == [["label=good"]] * 4 + [["label=bad"]] * 2
    assert cut["classes"]["good"] == {"precision": pytest.approx(4 / 6), "recall": 1, "f1": pytest.approx(0.8), "n": 4}
    seconds = dict.fromkeys(("latency_mean_seconds", "latency_p50_seconds", "latency_p95_seconds"), 0.1)
    assert cut["cost"] == pytest.approx(seconds | {"size_bytes": len(b"weights")}), "tokens and memory were not measured: they are absent"
    evaluate.evaluate(config(evaluate={"max_new_tokens": 7}), RUN)
    assert len(server.asked) == 12


def test_a_schema_is_known_by_what_it_says(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    manifest = write_release(RUN.release)
    keys = []
    for text in ("{}", '{"type": "object"}'):
        Path("s.json").write_text(text)
        keys.append(finished.evaluation_key(manifest.digest, "sha256:rows", config(task="causal-lm", evaluate={"json_schema": "s.json"})))
    assert len({*keys}) == 2


@pytest.mark.parametrize("lost", ["metrics.json", "predictions.parquet"])
def test_half_an_evaluation_is_finished_from_the_answers_on_disk(server: Server, config: MakeConfig, write_release: WriteRelease, lost: str) -> None:
    write_release(RUN.release)
    record = evaluate.evaluate(config(), RUN)
    shutil.rmtree("store")
    (RUN.evaluation / lost).unlink()
    assert evaluate.evaluate(config(), RUN) == record and len(server.starts) == 2 and len(server.asked) == 6


def test_a_killed_evaluation_asks_nothing_twice(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    write_release(RUN.release)
    slow, server.fails_after = config(evaluate={"concurrency": 1}), 3
    with pytest.raises(OutsideError, match="killed"):
        evaluate.evaluate(slow, RUN)
    assert len(server.asked) == 3 and read_measured(RUN.evaluation) is None
    forget()
    (cache,) = (RUN.root / "answers").glob("*.jsonl")
    with cache.open("a") as stream:
        stream.write('{"row": 5, "id": "row-5", "answ')
    server.fails_after = math.inf
    record = evaluate.evaluate(slow, RUN)
    assert sorted(row for _, row in server.asked) == [f"row-{number}" for number in range(6)] and record["metrics"]["accuracy"] == pytest.approx(4 / 6)


def test_metrics_are_written_last_of_all(server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert order[:2] == [("predictions.parquet", False), ("metrics.json", True)], "new predictions never stand beside old metrics"


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


@pytest.mark.parametrize("gone", ["nothing", "eval"])
def test_the_same_bytes_under_another_name_are_not_measured_again(server: Server, config: MakeConfig, write_release: WriteRelease, gone: str) -> None:
    """Found in another run's folder, or in the store where that is gone."""
    first = write_release(RUN.release)
    record, other = evaluate.evaluate(config(), RUN), RunPaths.of("renamed")
    if gone == "eval":
        shutil.rmtree(RUN.evaluation)
    other.data.parent.mkdir()
    other.data.symlink_to(RUN.data.absolute())
    renamed = write_release(other.release, name="renamed")
    assert renamed.digest == first.digest
    assert evaluate.evaluate(config(name="renamed"), other) == record | {"release": renamed.reference} == stored(other.evaluation)
    assert len(server.starts) == 1 and read_measured(other.evaluation) is not None


GATE = "rules:\n  - {rule: non_inferior_to, reference: champion, metric: accuracy, margin: 0.05}\n"


@pytest.fixture
def champion(write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Pinned in production, under releases; the run's own release and its gate are there too."""
    write_release(RUN.release)
    Path("gate.yaml").write_text(GATE)
    manifest = write_release(Path("releases/old@1/release"), name="old", weights=b"old")
    monkeypatch.setattr(references, "find", lambda reference: {manifest.reference: Path("releases/old@1")}[reference])
    return manifest


def pinned(reference: str | None) -> DeployConfig:
    return DeployConfig(name="local", model="m", release=reference, gate=None)


def test_the_champion_is_measured_on_the_runs_own_rows_and_only_once(server: Server, config: MakeConfig, champion: Manifest) -> None:
    for times in (1, 2):
        evaluate.evaluate(config(), RUN, pinned(champion.reference))
        assert server.starts == [RUN.release, Path("releases/old@1/release")], times
    assert stored(RUN.evaluation / "champion")["release"] == champion.reference and stored(RUN.evaluation / "champion")["dataset"] == "sha256:rows"
    evidence = gather(RUN, pinned(champion.reference))
    assert evidence.references["champion"].record == stored(RUN.evaluation / "champion")
    prepare(["good", "bad"], "sha256:other rows")
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 4 and stored(RUN.evaluation / "champion")["dataset"] == "sha256:other rows", "never compared across different data"


def test_another_machine_fetches_the_champions_evaluation(server: Server, config: MakeConfig, champion: Manifest) -> None:
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    shutil.rmtree(RUN.evaluation)
    shutil.rmtree("releases")  # nor is the champion itself needed
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 2 and stored(RUN.evaluation / "champion")["release"] == champion.reference


def test_only_what_the_gate_asks_for_is_measured(server: Server, config: MakeConfig, champion: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    evaluate.evaluate(config(), RUN, pinned(None))
    assert not (RUN.evaluation / "champion").exists(), "nothing is pinned any more"
    Path("gate.yaml").write_text("rules:\n  - {rule: parity}\n")
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert not (RUN.evaluation / "champion").exists() and len(server.starts) == 2
    Path("gate.yaml").write_text(GATE)
    shutil.rmtree("store")
    (Path("releases/old@1/release") / "manifest.json").write_text(champion.model_copy(update={"task": "causal-lm"}).model_dump_json())
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 2 and "it is a causal-lm model" in capsys.readouterr().err
    with pytest.raises(KeyError):
        evaluate.evaluate(config(), RUN, pinned("lost@sha256:" + "0" * 64))
    assert stored()["n"] == 6, "the run's own evaluation stands"


def test_a_store_that_does_not_answer_costs_a_measurement_and_no_more(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(key: str, folder: Path) -> bool:
        raise OutsideError("DVC: down")

    for name in ("keep_evaluation", "find_evaluation"):
        monkeypatch.setattr(finished, name, down)
    write_release(RUN.release)
    assert evaluate.evaluate(config(), RUN)["n"] == 6 and capsys.readouterr().err.count("DVC: down") == 2


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

    def with_tokens(manifest: Manifest, release: Path, rows: list[dict[str, Any]], *, references: bool) -> list[dict[str, Any]]:
        seen.append((len(rows), references))
        return [row | {"input_ids": [1]} for row in rows]

    monkeypatch.setattr(evaluate, "with_tokens", with_tokens)
    monkeypatch.setattr(evaluate, "BATCH_ROWS", 4)
    numbered = ((number, {"id": str(number)}) for number in range(20) if number % 2)
    found = list(evaluate.encoded(Manifest.model_construct(), Path("r"), numbered, references=True))
    assert [number for number, _ in found] == list(range(1, 20, 2)) and all(row["input_ids"] == [1] for _, row in found)
    assert seen == [(4, True), (4, True), (2, True)]
