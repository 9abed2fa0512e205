"""What a release is measured against: its parent, its base, the champion, each on the run's own rows and once. The
server is a fake at the seam."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from configs.environment.config import DeployConfig
from configs.paths import RunPaths
from configs.release import Manifest
from eval import evaluate
from eval.measure import references
from eval.rules.evidence import gather, read_measured
from tests.support.measuring import RUN, MakeConfig, Server, WriteRelease, prepare, server, stored

__all__ = ["server"]
pytestmark = pytest.mark.unit
BASELINE = {"baseline": True}


def test_base_and_parent_lie_beside_the_release_and_go_with_the_config(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    write_release(RUN.release)
    write_release(RUN.parent, name="unquantized", weights=b"twice as large")
    base = write_release(Path("build/base/tiny"), name="tiny", weights=b"base")
    record = evaluate.evaluate(config(evaluate=BASELINE), RUN)
    assert record == stored() and record["metrics"]["parent_accuracy"] == record["metrics"]["accuracy"]
    assert record["metrics"]["size_ratio"] == len(b"weights") / len(b"twice as large")
    assert (
        record["metrics"]["parent_agreement"] == 1
        and record["metrics"]["parent_kl_divergence"] == 0
        and record["metrics"]["accuracy_change"] == 0
    )
    assert f"# {record['release']}" in (RUN.evaluation / "card.md").read_text()
    assert stored(RUN.evaluation / "parent")["release"].startswith("unquantized@")
    assert (
        stored(RUN.evaluation / "base")["release"] == base.reference
        and read_measured(RUN.evaluation / "base") is not None
    )
    assert server.starts == [RUN.release, RUN.parent, Path("build/base/tiny")]
    assert evaluate.evaluate(config(evaluate=BASELINE), RUN) == record and len(server.starts) == 3
    for file in [*RUN.parent.iterdir()]:
        file.unlink()
    RUN.parent.rmdir()
    evaluate.evaluate(config(), RUN)
    assert not (RUN.evaluation / "parent").exists() and not (RUN.evaluation / "base").exists(), (
        "no earlier run's reference is left for the gate"
    )
    assert not (RUN.evaluation / "card.md").exists() and not any("parent" in name for name in stored()["metrics"])


def test_the_base_is_measured_once_for_all_runs_on_the_same_rows(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    other = RunPaths.of("other")
    write_release(Path("build/base/tiny"), name="tiny", weights=b"base")
    for paths in (RUN, other):
        write_release(paths.release)
    other.data.symlink_to(RUN.data.absolute())
    for paths in (RUN, other):
        evaluate.evaluate(config(evaluate=BASELINE), paths)
    assert server.starts.count(Path("build/base/tiny")) == 1
    assert stored(other.evaluation / "base") == stored(RUN.evaluation / "base")


def test_killed_between_two_writes_no_earlier_parent_or_base_stands_beside_the_release(
    server: Server, config: MakeConfig, write_release: WriteRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(RUN.release)
    for weights in (b"unquantized", b"another"):
        write_release(RUN.parent, name="unquantized", weights=weights)
        write_release(Path("build/base/tiny"), name="tiny", weights=weights)
        if weights == b"another":
            write_release(RUN.release, weights=b"trained again")
            monkeypatch.setattr(evaluate, "write_metrics", killed)
        with pytest.raises(KeyboardInterrupt) if weights == b"another" else contextlib.nullcontext():
            evaluate.evaluate(config(evaluate=BASELINE), RUN)
    assert not (RUN.evaluation / "parent").exists() and not (RUN.evaluation / "base").exists()


def killed(*facts: object) -> None:
    raise KeyboardInterrupt


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


def test_the_champion_is_measured_on_the_runs_own_rows_and_only_once(
    server: Server, config: MakeConfig, champion: Manifest
) -> None:
    for times in (1, 2):
        evaluate.evaluate(config(), RUN, pinned(champion.reference))
        assert server.starts == [RUN.release, Path("releases/old@1/release")], times
    assert (
        stored(RUN.evaluation / "champion")["release"] == champion.reference
        and stored(RUN.evaluation / "champion")["dataset"] == "sha256:rows"
    )
    evidence = gather(RUN, pinned(champion.reference))
    assert evidence.references["champion"].record == stored(RUN.evaluation / "champion")
    prepare(["good", "bad"], "sha256:other rows")
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 4 and stored(RUN.evaluation / "champion")["dataset"] == "sha256:other rows", (
        "never compared across different data"
    )


def test_another_machine_fetches_the_champions_evaluation(
    server: Server, config: MakeConfig, champion: Manifest
) -> None:
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    shutil.rmtree(RUN.evaluation)
    shutil.rmtree("releases")  # nor is the champion itself needed
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 2 and stored(RUN.evaluation / "champion")["release"] == champion.reference


def test_only_what_the_gate_asks_for_is_measured(
    server: Server, config: MakeConfig, champion: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    evaluate.evaluate(config(), RUN, pinned(None))
    assert not (RUN.evaluation / "champion").exists(), "nothing is pinned any more"
    Path("gate.yaml").write_text("rules:\n  - {rule: parity}\n")
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert not (RUN.evaluation / "champion").exists() and len(server.starts) == 2
    Path("gate.yaml").write_text(GATE)
    shutil.rmtree("store")
    (Path("releases/old@1/release") / "manifest.json").write_text(
        champion.model_copy(update={"task": "causal-lm"}).model_dump_json()
    )
    evaluate.evaluate(config(), RUN, pinned(champion.reference))
    assert len(server.starts) == 2 and "it is a causal-lm model" in capsys.readouterr().err
    with pytest.raises(KeyError):
        evaluate.evaluate(config(), RUN, pinned("lost@sha256:" + "0" * 64))
    assert stored()["n"] == 6, "the run's own evaluation stands"
