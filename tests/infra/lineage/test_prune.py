"""Pruning: what anything refers to stays, whatever else is so; what goes can be fetched again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError, RefusedError
from configs.release import ReleaseUse
from infra.dvc import evaluations, releases
from infra.dvc.publish import publish as publish_run
from infra.dvc.repository import repository
from infra.lineage import prune
from infra.lineage.prune import Copy, plan_prune
from tests.support.releases import checkout, content, evaluation, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC
# Few names and first digits, so that folders and references often meet.
REFERENCES = st.builds(
    lambda name, start, end: f"{name}@sha256:{start * 12}{end * 52}",
    st.sampled_from(["calls", "smoke"]),
    st.sampled_from("ab"),
    st.sampled_from("01"),
)
FOLDERS = st.builds(
    lambda name, digit: f"{name}@{digit * 12}", st.sampled_from(["calls", "smoke", "ner"]), st.sampled_from("abc")
)
COPIES = st.lists(st.builds(Copy, FOLDERS, st.integers(0, 10**12), st.booleans()), unique_by=lambda copy: copy.folder)


@given(
    COPIES,
    st.dictionaries(REFERENCES, st.sampled_from(["local: serves (blue)", "refs/heads/main:configs/deploy/local.yaml"])),
)
def test_nothing_that_is_referred_to_ever_goes(copies: list[Copy], holders: dict[str, str]) -> None:
    held = {releases.folder_of(reference).name for reference in holders}
    decisions = {one.folder: one for one in plan_prune(copies, holders)}
    assert not [one for one in decisions.values() if one.remove and one.folder in held]
    assert decisions.keys() == {copy.folder for copy in copies} and all(one.why for one in decisions.values())


@given(COPIES, st.dictionaries(REFERENCES, st.just("held")))
def test_nothing_goes_that_could_not_be_fetched_again_and_all_else_does(
    copies: list[Copy], holders: dict[str, str]
) -> None:
    held = {releases.folder_of(reference).name for reference in holders}
    assert {one.folder for one in plan_prune(copies, holders) if one.remove} == {
        copy.folder for copy in copies if copy.safe and copy.folder not in held
    }


@given(COPIES, st.dictionaries(REFERENCES, st.just("held")), REFERENCES)
def test_one_reference_more_never_takes_more_away(copies: list[Copy], holders: dict[str, str], further: str) -> None:
    before, after = (
        {one.folder for one in plan_prune(copies, known) if one.remove}
        for known in (holders, holders | {further: "held"})
    )
    assert after <= before


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def publish(name: str, weights: bytes) -> tuple[str, Path]:
    """Its reference, its folder; the pointer committed."""
    paths, manifest = make_run(name, weights=weights)
    target = publish_run(paths)
    git("add", "-A")
    git("commit", "-qm", name)
    return manifest.reference, target


def pin(reference: str, environment: str = "local") -> None:
    path = Path(f"configs/deploy/{environment}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {environment}\nrelease: {reference}\n")
    git("add", "-A")
    git("commit", "-qm", f"pin {reference[:20]}")


def nobody() -> list[ReleaseUse]:
    return []


def here() -> set[str]:
    return {path.parent.name.split("@")[0] for path in Path("releases").glob("*@*/release")}


def test_what_nobody_names_goes_and_is_fetched_again(checkout: Path) -> None:
    reference, target = publish("idle", b"weights")
    published = content(target)
    told = prune.prune(nobody)
    assert (
        told == {"would_remove": [target.name], "bytes": sum(map(len, published.values())), "kept": {}}
        and target.exists()
    )
    assert prune.prune(nobody, act=True)["removed"] == [target.name]
    assert not target.exists() and b"weights" not in content(Path(".dvc/cache")).values()
    assert releases.find(reference) == target and content(target) == published


@pytest.mark.parametrize("where", ["checkout", "branch", "tag", "history", "gate"])
def test_what_git_names_stays(checkout: Path, where: str) -> None:
    reference, target = publish("named", b"weights")
    if where == "gate":
        Path("configs/gates").mkdir(parents=True)
        Path("configs/gates/calls.yaml").write_text(f"rules: [{{rule: non_inferior, reference: {reference}}}]\n")
    else:
        pin(reference)
    if where in ("branch", "tag"):
        git(where, "kept")
        git("reset", "-q", "--hard", "HEAD~1")
    if where == "history":
        pin(publish("next", b"others")[0])
    if where == "checkout":
        git("reset", "-q", "--soft", "HEAD~1")
    kept = prune.prune(nobody, act=True)["kept"]
    words = {
        "branch": "refs/heads/kept",
        "tag": "refs/tags/kept",
        "history": "the history of HEAD",
        "gate": "configs/gates/calls.yaml",
    }
    assert words.get(where, "configs/deploy/local.yaml") in kept[target.name]
    assert target.exists()


@pytest.mark.parametrize("how", ["serves (blue)", "in slot green", "desired", "rollback target"])
def test_what_an_environment_needs_stays_and_what_it_once_ran_does_not(checkout: Path, how: str) -> None:
    (needed, kept), (once, gone) = publish("needed", b"weights"), publish("once", b"others")
    uses = [ReleaseUse("live", needed, how, True, None), ReleaseUse("live", once, "not any more", False, None)]
    assert prune.prune(lambda: uses, act=True) == {
        "removed": [gone.name],
        "bytes": pytest.approx(prune_size(gone), abs=10**6),
        "kept": {kept.name: f"live: {how}"},
    }
    assert here() == {"needed"}


def prune_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_begins_to_be_used_while_pruning_stays(checkout: Path) -> None:
    reference, target = publish("late", b"weights")
    answers = iter([[], [ReleaseUse("live", reference, "desired", True, None)]])
    prune.prune(lambda: next(answers), act=True)
    assert target.exists()


def test_bytes_that_two_releases_share_stay_in_the_cache_for_the_other(checkout: Path) -> None:
    kept, _ = publish("two", b"shared weights")
    pin(kept)
    publish("three", b"shared weights")
    prune.prune(nobody, act=True)
    assert here() == {"two"} and b"shared weights" in content(Path(".dvc/cache")).values()


def test_dvc_sees_every_pointer_of_a_checkout(checkout: Path) -> None:
    """With /releases/* in .gitignore it saw none: `dvc gc --workspace` would have taken every release away."""
    _, target = publish("seen", b"weights")
    with repository() as repo:
        assert [Path(out.fs_path).name for out in repo.index.outs] == [target.name]


def test_what_is_published_but_not_committed_stays_in_the_remote(checkout: Path) -> None:
    Path(".gitignore").write_text("/build/\n/releases/*\n!/releases/*.dvc\n")  # as older checkouts have it
    git("add", "-A")
    git("commit", "-qm", "old")
    paths, manifest = make_run("fresh", weights=b"weights")
    target = publish_run(paths)
    assert prune.prune(nobody, act=True, remote=True)["remote_objects_removed"] == 0
    assert releases.find(manifest.reference) == target


@pytest.mark.parametrize("lost", ["remote", "pointer"])
def test_the_only_copy_stays(checkout: Path, lost: str) -> None:
    _, target = publish("only", b"weights")
    if lost == "remote":
        shutil.rmtree("stores/dvc")
    else:
        Path(f"{target}.dvc").unlink()
    assert prune.prune(nobody, act=True)["kept"] == {target.name: "the DVC remote does not have all of it"}
    assert target.exists()


def test_one_lost_object_is_enough_to_keep_the_folder(checkout: Path) -> None:
    _, target = publish("torn", b"weights")
    (lost,) = [path for path in Path("stores/dvc").rglob("*") if path.is_file() and path.read_bytes() == b"weights"]
    lost.unlink()
    assert target.name in prune.prune(nobody, act=True)["kept"]


def test_a_prune_killed_half_way_is_finished_by_the_next(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, target = publish("killed", b"weights")

    def die(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("infra.lineage.prune.shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            prune.prune(nobody, act=True)
    assert not target.exists() and [row["here"] for row in releases.list_releases()] == [False]
    prune.prune(nobody, act=True)
    assert not list(Path("releases").glob(".*.pruned"))
    assert releases.find(reference) == target


def test_the_remote_loses_what_no_commit_points_to_and_nothing_else(checkout: Path) -> None:
    evaluations.keep_evaluation("k", evaluation(checkout / "eval", "metrics.json"))
    kept, target = publish("kept", b"weights")
    paths, _ = make_run("stray", weights=b"never committed")
    stray = publish_run(paths)
    Path(f"{stray}.dvc").unlink()
    before = content(Path("stores/dvc"))
    told = prune.prune(nobody, remote=True)["remote_objects_that_would_go"]
    assert told > 0 and content(Path("stores/dvc")) == before
    assert prune.prune(nobody, act=True, remote=True)["remote_objects_removed"] == told
    left = content(Path("stores/dvc"))
    assert b"never committed" not in left.values() and b"weights" in left.values() and len(before) - len(left) == told
    assert evaluations.find_evaluation("k", checkout / "there") and releases.find(kept) == target


def test_what_only_another_branch_points_to_stays_in_the_remote(checkout: Path) -> None:
    git("add", "-A")
    git("commit", "-qm", "start")
    git("checkout", "-qb", "other")
    reference, target = publish("elsewhere", b"weights")
    git("checkout", "-q", "-")
    shutil.rmtree(target)
    assert prune.prune(nobody, act=True, remote=True)["remote_objects_removed"] == 0
    git("checkout", "-q", "other")
    assert releases.find(reference) == target


def test_a_shallow_clone_may_not_judge_the_remote(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("one", b"weights")
    publish("two", b"others")
    clone = tmp_path_factory.mktemp("shallow")
    git("clone", "-q", "--depth", "1", f"file://{checkout}", str(clone))
    monkeypatch.chdir(clone)
    with pytest.raises(RefusedError, match=r"shallow(.|\n)*git fetch --unshallow"):
        prune.prune_remote([], True)


def test_a_used_release_that_no_commit_points_to_stops_the_remotes_prune(checkout: Path) -> None:
    publish("one", b"weights")
    stranger = f"stranger@sha256:{'f' * 64}"
    with pytest.raises(RefusedError, match=f"{stranger}: an environment uses it"):
        prune.prune_remote([ReleaseUse("live", stranger, "serves (blue)", True, None)], True)


def test_without_git_nothing_goes(checkout: Path) -> None:
    _, target = publish("one", b"weights")
    shutil.rmtree(".git")
    with pytest.raises(ExternalError, match="git"):
        prune.prune(nobody, act=True)
    assert target.exists()
