"""Releases and kept evaluations found again: whole or not at all, also where git has only the pointer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, InputError, RefusedError
from infra.dvc import evaluations, releases
from infra.dvc.publish import publish
from tests.support.releases import Killed, checkout, content, evaluation, make_run, untracked

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC


def test_find_fetches_from_the_remote_what_only_git_knows(checkout: Path) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    published = content(target)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    assert releases.find(manifest.reference) == target
    assert content(target) == published


def test_find_needs_no_dvc_for_what_is_here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    monkeypatch.setattr(releases, "repository", lambda: pytest.fail("asked DVC"))
    assert releases.find(manifest.reference) == target


def test_find_refuses_a_flipped_byte_and_fetch_mends_it(checkout: Path) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    (target / "release/model.safetensors").write_bytes(b"wEights")
    with pytest.raises(RefusedError, match=r"model\.safetensors(.|\n)*tunegate releases fetch"):
        releases.find(manifest.reference)
    assert releases.fetch(manifest.reference) == target
    assert releases.find(manifest.reference) == target


def test_an_unknown_release_names_the_known_ones(checkout: Path) -> None:
    _, manifest = published = make_run()
    publish(published[0])
    with pytest.raises(InputError, match=f"known:\n  {manifest.reference}(.|\n)*tunegate releases list"):
        releases.find(f"demo@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    "reference", ["demo", "demo@sha256:12", "../x@sha256:" + "0" * 64, "demo@sha256:" + "0" * 63 + "g", ""]
)
def test_what_is_no_reference_is_an_input_error(checkout: Path, reference: str) -> None:
    with pytest.raises(InputError, match="expected NAME@sha256"):
        releases.find(reference)


def test_a_reference_that_shares_twelve_digits_is_refused(checkout: Path) -> None:
    paths, manifest = make_run()
    publish(paths)
    twin = manifest.digest[:-1] + ("0" if manifest.digest[-1] != "0" else "1")
    with pytest.raises(RefusedError, match=f"digest {manifest.digest}, expected {twin}"):
        releases.find(f"demo@{twin}")


def test_list_is_empty_before_the_first(checkout: Path) -> None:
    assert releases.list_releases() == []


def test_list_shows_what_is_here_and_what_only_has_a_pointer(checkout: Path) -> None:
    _, late = published = make_run("late", created="2026-11-24")
    publish(published[0])
    paths, early = make_run("early", created="2026-11-23", weights=b"others")
    shutil.rmtree(publish(paths))
    rows = releases.list_releases()
    assert [(row["reference"], row["here"]) for row in rows] == [(early.reference, False), (late.reference, True)]
    assert json.loads(json.dumps(rows)) == rows
    releases.find(early.reference)
    assert releases.list_releases()[0] == rows[0] | {"here": True}


def test_an_evaluation_is_found_by_its_key_on_a_machine_that_never_saw_it(checkout: Path) -> None:
    kept = evaluation(checkout / "build/demo/eval", "metrics.json", "predictions.parquet", "vllm.log")
    evaluations.keep_evaluation("k" * 64, kept)
    shutil.rmtree(kept)
    assert not evaluations.find_evaluation("0" * 64, kept) and not kept.exists()
    there = evaluation(checkout / "elsewhere", "probe.json")
    assert evaluations.find_evaluation("k" * 64, there)
    assert content(there) == {"metrics.json": b"metrics.json 1", "predictions.parquet": b"predictions.parquet 1"}, (
        "no log, and nothing of an earlier one"
    )
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
            evaluations.keep_evaluation("k", kept)
    assert not evaluations.find_evaluation("k", checkout / "there")
    evaluations.keep_evaluation("k", kept)
    evaluations.keep_evaluation("k", evaluation(kept, "metrics.json", text="2"))
    assert (
        evaluations.find_evaluation("k", checkout / "there")
        and content(checkout / "there")["metrics.json"] == b"metrics.json 2"
    )


def test_errors_of_a_remotes_own_kind_are_the_outsides(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc_objects.fs.local import LocalFileSystem

    class NoCredentialsError(Exception):
        """As botocore's, which is no OSError."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NoCredentialsError("who are you?")

    for name in ("exists", "makedirs"):
        monkeypatch.setattr(LocalFileSystem, name, refuse)
    for act in (evaluations.keep_evaluation, evaluations.find_evaluation):
        with pytest.raises(ExternalError, match="NoCredentialsError: who are you"):
            act("k", checkout / "eval")


def test_kept_evaluations_and_published_releases_leave_each_other_alone(checkout: Path) -> None:
    paths, manifest = make_run()
    evaluations.keep_evaluation("k", evaluation(checkout / "eval", "metrics.json"))
    target = publish(paths)
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert releases.find(manifest.reference) == target and evaluations.find_evaluation("k", checkout / "there")


def test_without_a_dvc_repository_the_outside_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths, _ = make_run()
    for act in (
        lambda: publish(paths),
        lambda: evaluations.keep_evaluation("k", tmp_path),
        lambda: evaluations.find_evaluation("k", tmp_path),
    ):
        with pytest.raises(ExternalError, match="NotDvcRepoError"):
            act()
