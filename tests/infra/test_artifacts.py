"""Publishing: only what passed, whole or not at all, the same again; found again where git has only the pointer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, OutsideError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest, digest_of, list_files
from configs.schema import Serving
from configs.signing import Signing
from configs.verdict import Outcome, Verdict
from infra import artifacts
from infra.signing import KEY, verify_signature
from tests.infra.test_signing import Pair, make_pair

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC
ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with this project's own DVC settings."""
    (tmp_path / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".git" / "dvc-site"))
    return tmp_path


def make_run(name: str = "demo", *, weights: bytes = b"weights", outcome: Outcome = "pass", created: str = "2026-11-24") -> tuple[RunPaths, Manifest]:
    """build/NAME as the stages leave it, tiny."""
    paths = RunPaths.of(name)
    shutil.rmtree(paths.root, ignore_errors=True)
    for folder in (paths.release, paths.evaluation / "base"):
        folder.mkdir(parents=True)
    (paths.release / "model.safetensors").write_bytes(weights)
    files = list_files(paths.release)
    facts: dict[str, Any] = {"base": {}, "data": {}, "quantization": {}, "git_revision": "x", "versions": {}, "config": {}, "created": created}
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (paths.release / "manifest.json").write_text(manifest.model_dump_json())
    for text in ("metrics.json", "base/metrics.json", "vllm.log", "answers-0123.jsonl"):
        (paths.evaluation / text).write_text("{}")
    Verdict(release=manifest.reference, outcome=outcome, results=[]).write(paths.gate / "verdict.json")
    return paths, manifest


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def untracked() -> list[str]:
    found = subprocess.run(["git", "status", "--short", "--untracked-files=all", "releases", "build"], capture_output=True, text=True, check=True)
    return [line[3:] for line in found.stdout.splitlines()]


def test_publish_copies_release_evaluation_and_verdict_but_no_logs(checkout: Path) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    assert target == Path(f"releases/demo@{manifest.digest.removeprefix('sha256:')[:12]}")
    copied = {"release/model.safetensors", "release/manifest.json", "eval/metrics.json", "eval/base/metrics.json", "gate/verdict.json"}
    assert set(content(target)) == copied | {"lineage.json"}


def test_publish_leaves_git_one_pointer_and_stdout_nothing(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = artifacts.publish(make_run()[0])
    assert untracked() == [f"{target}.dvc"]
    assert capfd.readouterr().out == ""


def test_bytes_are_in_the_remote_that_the_config_names(checkout: Path) -> None:
    artifacts.publish(make_run(weights=b"these very bytes")[0])
    assert b"these very bytes" in content(checkout / "build/dvc-remote").values()


def test_publishing_twice_changes_nothing(checkout: Path) -> None:
    paths, _ = make_run()
    target = artifacts.publish(paths)
    before, pointer = content(target), Path(f"{target}.dvc").read_bytes()
    (paths.evaluation / "metrics.json").write_text('{"measured": "again"}')
    assert artifacts.publish(paths) == target
    assert (content(target), Path(f"{target}.dvc").read_bytes()) == (before, pointer)


def test_building_again_leaves_what_was_published_alone(checkout: Path) -> None:
    paths, _ = make_run()
    target = artifacts.publish(paths)
    (paths.release / "model.safetensors").write_bytes(b"spoiled")
    assert (target / "release/model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_what_did_not_pass_is_refused(checkout: Path, outcome: Outcome) -> None:
    paths, _ = make_run(outcome=outcome)
    with pytest.raises(RefusedError, match=f"found the verdict {outcome}, expected pass"):
        artifacts.publish(paths)
    assert not Path("releases").exists()


def test_a_verdict_on_other_bytes_is_refused(checkout: Path) -> None:
    other, _ = make_run("other")
    paths, _ = make_run()
    shutil.copyfile(other.gate / "verdict.json", paths.gate / "verdict.json")
    with pytest.raises(RefusedError, match="found a verdict on other@"):
        artifacts.publish(paths)


@pytest.mark.parametrize("text", [None, "", "{}", '{"outcome": "pass"}'])
def test_no_readable_verdict_is_refused(checkout: Path, text: str | None) -> None:
    paths, _ = make_run()
    (paths.gate / "verdict.json").unlink()
    if text is not None:
        (paths.gate / "verdict.json").write_text(text)
    with pytest.raises(RefusedError, match=r"no verdict in build/demo/gate(.|\n)*tunegate gate"):
        artifacts.publish(paths)


def test_a_flipped_byte_is_refused_and_named(checkout: Path) -> None:
    paths, _ = make_run()
    (paths.release / "model.safetensors").write_bytes(b"wEights")
    with pytest.raises(RefusedError, match=r"model\.safetensors: sha256"):
        artifacts.publish(paths)


class Killed(BaseException):
    """No handler of ours may catch it, as none catches SIGKILL."""


@pytest.mark.parametrize("victim", ["shutil.copytree", "os.replace", "dvc.repo.Repo.add", "dvc.repo.Repo.push"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_publish_is_finished_by_the_next(checkout: Path, monkeypatch: pytest.MonkeyPatch, victim: str, when: str) -> None:
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
            artifacts.publish(paths)
    target = artifacts.publish(paths)
    shutil.rmtree(target)
    shutil.rmtree(".dvc/cache")
    assert [(row["reference"], row["verdict"]) for row in artifacts.list_releases()] == [(manifest.reference, "pass")]
    assert artifacts.find(manifest.reference) == target
    assert untracked() == [f"{target}.dvc"]


def test_lost_bytes_are_published_anew(checkout: Path) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    for folder in (target, Path(".dvc/cache"), Path("build/dvc-remote")):
        shutil.rmtree(folder)
    with pytest.raises(OutsideError, match=r"DVC(.|\n)*dvc status"):
        artifacts.find(manifest.reference)
    artifacts.publish(paths)
    shutil.rmtree(target)
    assert artifacts.find(manifest.reference) == target


def test_find_fetches_from_the_remote_what_only_git_knows(checkout: Path) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    published = content(target)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    assert artifacts.find(manifest.reference) == target
    assert content(target) == published


def test_find_needs_no_dvc_for_what_is_here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    monkeypatch.setattr(artifacts, "repository", lambda: pytest.fail("asked DVC"))
    assert artifacts.find(manifest.reference) == target


def test_find_refuses_a_flipped_byte_and_fetch_mends_it(checkout: Path) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    (target / "release/model.safetensors").write_bytes(b"wEights")
    with pytest.raises(RefusedError, match=r"model\.safetensors(.|\n)*tunegate releases fetch"):
        artifacts.find(manifest.reference)
    assert artifacts.fetch(manifest.reference) == target
    assert artifacts.find(manifest.reference) == target


def test_a_flipped_byte_here_does_not_reach_the_cache(checkout: Path) -> None:
    target = artifacts.publish(make_run(weights=b"weights")[0])
    (target / "release/model.safetensors").write_bytes(b"wEights")
    assert b"wEights" not in content(Path(".dvc/cache")).values()


def test_an_unknown_release_names_the_known_ones(checkout: Path) -> None:
    _, manifest = published = make_run()
    artifacts.publish(published[0])
    with pytest.raises(InputError, match=f"known:\n  {manifest.reference}(.|\n)*tunegate releases list"):
        artifacts.find(f"demo@sha256:{'0' * 64}")


@pytest.mark.parametrize("reference", ["demo", "demo@sha256:12", "../x@sha256:" + "0" * 64, "demo@sha256:" + "0" * 63 + "g", ""])
def test_what_is_no_reference_is_an_input_error(checkout: Path, reference: str) -> None:
    with pytest.raises(InputError, match="expected NAME@sha256"):
        artifacts.find(reference)


def test_a_reference_that_shares_twelve_digits_is_refused(checkout: Path) -> None:
    paths, manifest = make_run()
    artifacts.publish(paths)
    twin = manifest.digest[:-1] + ("0" if manifest.digest[-1] != "0" else "1")
    with pytest.raises(RefusedError, match=f"digest {manifest.digest}, expected {twin}"):
        artifacts.find(f"demo@{twin}")


def test_list_is_empty_before_the_first(checkout: Path) -> None:
    assert artifacts.list_releases() == []


def test_list_shows_what_is_here_and_what_only_has_a_pointer(checkout: Path) -> None:
    _, late = published = make_run("late", created="2026-11-24")
    artifacts.publish(published[0])
    paths, early = make_run("early", created="2026-11-23", weights=b"others")
    shutil.rmtree(artifacts.publish(paths))
    rows = artifacts.list_releases()
    assert [(row["reference"], row["here"]) for row in rows] == [(early.reference, False), (late.reference, True)]
    assert json.loads(json.dumps(rows)) == rows
    artifacts.find(early.reference)
    assert artifacts.list_releases()[0] == rows[0] | {"here": True}


def evaluation(folder: Path, *names: str, text: str = "1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{name} {text}")
    return folder


def test_an_evaluation_is_found_by_its_key_on_a_machine_that_never_saw_it(checkout: Path) -> None:
    kept = evaluation(checkout / "build/demo/eval", "metrics.json", "predictions.parquet", "vllm.log")
    artifacts.keep_evaluation("k" * 64, kept)
    shutil.rmtree(kept)
    assert not artifacts.find_evaluation("0" * 64, kept) and not kept.exists()
    there = evaluation(checkout / "elsewhere", "probe.json")
    assert artifacts.find_evaluation("k" * 64, there)
    assert content(there) == {"metrics.json": b"metrics.json 1", "predictions.parquet": b"predictions.parquet 1"}, "no log, and nothing of an earlier one"
    assert untracked() == [], "it wants no pointer in git"


def test_an_evaluation_that_was_cut_short_is_not_found(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """metrics.json is the last to be put."""
    from dvc_objects.fs.local import LocalFileSystem

    real = LocalFileSystem.put_file

    def die(self: Any, source: str, target: str, **settings: Any) -> None:
        real(self, source, target, **settings)
        raise Killed

    kept = evaluation(checkout / "eval", "metrics.json", "predictions.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", die)
        with pytest.raises(Killed):
            artifacts.keep_evaluation("k", kept)
    assert not artifacts.find_evaluation("k", checkout / "there")
    artifacts.keep_evaluation("k", kept)
    artifacts.keep_evaluation("k", evaluation(kept, "metrics.json", text="2"))
    assert artifacts.find_evaluation("k", checkout / "there") and content(checkout / "there")["metrics.json"] == b"metrics.json 2"


def test_errors_of_a_remotes_own_kind_are_the_outsides(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc_objects.fs.local import LocalFileSystem

    class NoCredentialsError(Exception):
        """As botocore's, which is no OSError."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NoCredentialsError("who are you?")

    for name in ("exists", "makedirs"):
        monkeypatch.setattr(LocalFileSystem, name, refuse)
    for act in (artifacts.keep_evaluation, artifacts.find_evaluation):
        with pytest.raises(OutsideError, match="NoCredentialsError: who are you"):
            act("k", checkout / "eval")


def test_kept_evaluations_and_published_releases_leave_each_other_alone(checkout: Path) -> None:
    paths, manifest = make_run()
    artifacts.keep_evaluation("k", evaluation(checkout / "eval", "metrics.json"))
    target = artifacts.publish(paths)
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert artifacts.find(manifest.reference) == target and artifacts.find_evaluation("k", checkout / "there")


def test_without_a_dvc_repository_the_outside_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths, _ = make_run()
    for act in (lambda: artifacts.publish(paths), lambda: artifacts.keep_evaluation("k", tmp_path), lambda: artifacts.find_evaluation("k", tmp_path)):
        with pytest.raises(OutsideError, match="NotDvcRepoError"):
            act()


@pytest.fixture
def pair(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The publisher's keys; publishing signs from here on."""
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    return made


def test_publishing_signs_and_the_signature_travels_with_the_bytes(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    assert artifacts.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text())) == target
    assert set(content(target)) == {
        "release/model.safetensors",
        "release/manifest.json",
        "eval/metrics.json",
        "eval/base/metrics.json",
        "gate/verdict.json",
        "lineage.json",
        "model.sig",
    }


def test_without_a_key_nothing_is_signed_and_only_who_asks_for_a_signature_misses_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, manifest = make_run()
    target = artifacts.publish(paths)
    assert artifacts.find_trusted(manifest.reference, None) == target
    with pytest.raises(RefusedError, match=r"found no .*model\.sig"):
        artifacts.find_trusted(manifest.reference, Signing(public_key=make_pair(checkout).public.read_text()))


def test_publishing_again_signs_what_was_published_unsigned_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, _ = make_run()
    artifacts.publish(paths)
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    target = artifacts.publish(paths)
    first = (target / "model.sig").read_bytes()
    verify_signature(target / "release", str(made.public))
    artifacts.publish(paths)
    assert (target / "model.sig").read_bytes() == first, "a signature is as immutable as what it signs"


def test_a_key_that_cannot_be_used_publishes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "absent.key")
    paths, manifest = make_run()
    with pytest.raises(InputError, match=r"absent\.key"):
        artifacts.publish(paths)
    assert list(Path("releases").glob("*.dvc")) == []
    monkeypatch.setenv(KEY, str(make_pair(checkout).private))
    artifacts.publish(paths)
    assert artifacts.find(manifest.reference)


def test_a_new_key_signs_what_stands_and_the_old_key_signed_it_no_more(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target, new = artifacts.publish(paths), make_pair(checkout, "new")
    artifacts.sign_published(manifest.reference, new.private)
    shutil.rmtree(target)
    assert artifacts.find_trusted(manifest.reference, Signing(public_key=new.public.read_text())) == target
    with pytest.raises(RefusedError, match="Key mismatch"):
        artifacts.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text()))
