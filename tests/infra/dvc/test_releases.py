"""Publishing: only what passed, whole or not at all, the same again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, RefusedError
from configs.verdict import Outcome, Verdict
from infra.dvc import releases
from infra.dvc.publish import publish
from tests.support.releases import Killed, checkout, content, make_run, untracked

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC


def test_publish_copies_release_evaluation_and_verdict_but_no_logs(checkout: Path) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    assert target == Path(f"releases/demo@{manifest.digest.removeprefix('sha256:')[:12]}")
    copied = {
        "release/model.safetensors",
        "release/manifest.json",
        "eval/metrics.json",
        "eval/base/metrics.json",
        "gate/verdict.json",
    }
    assert set(content(target)) == copied | {"lineage.json"}


def test_publish_leaves_git_one_pointer_and_stdout_nothing(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = publish(make_run()[0])
    assert untracked() == [f"{target}.dvc"]
    assert capfd.readouterr().out == ""


def test_bytes_are_in_the_remote_that_the_config_names(checkout: Path) -> None:
    publish(make_run(weights=b"these very bytes")[0])
    assert b"these very bytes" in content(checkout / "stores/dvc").values()


def test_publishing_twice_changes_nothing(checkout: Path) -> None:
    paths, _ = make_run()
    target = publish(paths)
    before, pointer = content(target), Path(f"{target}.dvc").read_bytes()
    (paths.evaluation / "metrics.json").write_text('{"measured": "again"}')
    assert publish(paths) == target
    assert (content(target), Path(f"{target}.dvc").read_bytes()) == (before, pointer)


def test_another_verdict_on_the_same_bytes_takes_the_place_of_the_first(checkout: Path) -> None:
    """For another environment, say: the bytes and their lineage stay."""
    paths, manifest = make_run()
    target = publish(paths, "run-1")
    before, pointer = content(target), Path(f"{target}.dvc").read_bytes()
    verdict = Verdict.read(paths.gate / "verdict.json").model_copy(update={"champion": f"old@sha256:{'1' * 64}"})
    verdict.write(paths.gate / "verdict.json")
    (paths.evaluation / "metrics.json").write_text('{"measured": "again"}')
    assert publish(paths) == target
    after = content(target)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"gate/verdict.json", "eval/metrics.json"}
    assert Path(f"{target}.dvc").read_bytes() != pointer
    shutil.rmtree(target)
    assert Verdict.read(releases.find(manifest.reference) / "gate/verdict.json") == verdict, "the remote has it"


def test_building_again_leaves_what_was_published_alone(checkout: Path) -> None:
    paths, _ = make_run()
    target = publish(paths)
    (paths.release / "model.safetensors").write_bytes(b"spoiled")
    assert (target / "release/model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_what_did_not_pass_is_refused(checkout: Path, outcome: Outcome) -> None:
    paths, _ = make_run(outcome=outcome)
    with pytest.raises(RefusedError, match=f"found the verdict {outcome}, expected pass"):
        publish(paths)
    assert not Path("releases").exists()


def test_a_verdict_on_other_bytes_is_refused(checkout: Path) -> None:
    other, _ = make_run("other")
    paths, _ = make_run()
    shutil.copyfile(other.gate / "verdict.json", paths.gate / "verdict.json")
    with pytest.raises(RefusedError, match="found a verdict on other@"):
        publish(paths)


@pytest.mark.parametrize("text", [None, "", "{}", '{"outcome": "pass"}'])
def test_no_readable_verdict_is_refused(checkout: Path, text: str | None) -> None:
    paths, _ = make_run()
    (paths.gate / "verdict.json").unlink()
    if text is not None:
        (paths.gate / "verdict.json").write_text(text)
    with pytest.raises(RefusedError, match=r"no verdict in build/demo/gate(.|\n)*tunegate gate"):
        publish(paths)


def test_a_flipped_byte_is_refused_and_named(checkout: Path) -> None:
    paths, _ = make_run()
    (paths.release / "model.safetensors").write_bytes(b"wEights")
    with pytest.raises(RefusedError, match=r"model\.safetensors: sha256"):
        publish(paths)


@pytest.mark.parametrize("victim", ["shutil.copytree", "os.replace", "dvc.repo.Repo.add", "dvc.repo.Repo.push"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_publish_is_finished_by_the_next(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, victim: str, when: str
) -> None:
    import dvc.repo

    paths, manifest = make_run()
    owner = {"shutil": shutil, "os": os, "dvc": dvc.repo.Repo}[victim.split(".")[0]]
    name = victim.split(".")[-1]
    real = getattr(owner, name)

    def die(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        with pytest.raises(Killed):
            publish(paths)
    target = publish(paths)
    shutil.rmtree(target)
    shutil.rmtree(".dvc/cache")
    assert [(row["reference"], row["verdict"]) for row in releases.list_releases()] == [(manifest.reference, "pass")]
    assert releases.find(manifest.reference) == target
    assert untracked() == [f"{target}.dvc"]


def test_lost_bytes_are_published_anew(checkout: Path) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    for folder in (target, Path(".dvc/cache"), Path("stores/dvc")):
        shutil.rmtree(folder)
    with pytest.raises(ExternalError, match=r"DVC(.|\n)*dvc status"):
        releases.find(manifest.reference)
    publish(paths)
    shutil.rmtree(target)
    assert releases.find(manifest.reference) == target


def test_what_an_earlier_version_pushed_into_build_is_fetched(checkout: Path) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    Path("stores/dvc").rename("build/dvc-remote")
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert releases.find(manifest.reference) == target and not Path("build/dvc-remote").exists()


def test_a_flipped_byte_here_does_not_reach_the_cache(checkout: Path) -> None:
    target = publish(make_run(weights=b"weights")[0])
    (target / "release/model.safetensors").write_bytes(b"wEights")
    assert b"wEights" not in content(Path(".dvc/cache")).values()
