"""What git's history says of a release, against real repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from configs.errors import ExternalError
from infra.git import history

pytestmark = pytest.mark.unit
ONE, TWO = (f"calls@sha256:{digit * 64}" for digit in "12")
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, env=os.environ | IDENTITY
    ).stdout.strip()


def commit(message: str, **files: str) -> str:
    """Files by name, `__` for `/`; its sha."""
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", message)
    return git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI_SERVER_URL", raising=False)
    git("init", "-q", "-b", "main")
    return tmp_path


def merge(branch: str, message: str) -> str:
    git("merge", "-q", "--no-ff", branch, "-m", message)
    return git("rev-parse", "HEAD")


def test_nothing_is_referenced_before_the_first_commit() -> None:
    assert history.referenced() == {}


def test_the_nearest_place_is_the_one_that_is_named() -> None:
    commit("one", configs__deploy__local=f"release: {ONE}\n")
    assert history.referenced() == {ONE: "configs/deploy/local.yaml"}
    commit("two", configs__deploy__local=f"release: {TWO}\n")
    assert history.referenced() == {ONE: "the history of HEAD", TWO: "configs/deploy/local.yaml"}
    git("tag", "old", "HEAD~1")
    assert history.referenced()[ONE] == "refs/tags/old:configs/deploy/local.yaml"


def test_a_pin_that_only_a_merge_resolved_to_is_part_of_the_history() -> None:
    third = f"calls@sha256:{'3' * 64}"
    commit("one", configs__deploy__local=f"release: {ONE}\n")
    git("checkout", "-qb", "side")
    commit("side", configs__deploy__local=f"release: {TWO}\n")
    git("checkout", "-q", "main")
    merge("side", "Merge")
    Path("configs/deploy/local.yaml").write_text(f"release: {third}\n")
    git("commit", "-qa", "--amend", "--no-edit")
    commit("four", configs__deploy__local="release: null\n")
    git("branch", "-D", "side")
    assert set(history.referenced()) == {ONE, TWO, third}


def test_where_git_cannot_tell_nothing_passes_for_unreferenced(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    with pytest.raises(ExternalError, match="git for-each-ref"):
        history.referenced()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExternalError, match="install git"):
        history.pointers()


def test_facts_of_a_commit_and_of_a_dirty_one() -> None:
    sha = commit("Tabs\tare kept")
    facts = history.commit_facts(sha)
    assert facts is not None and (facts["author"], facts["subject"], facts["sha"], "dirty" in facts) == (
        "Ada",
        "Tabs\tare kept",
        sha,
        False,
    )
    assert history.commit_facts(f"{sha}-dirty") == facts | {"dirty": True}


@pytest.mark.parametrize("revision", ["unknown", "f" * 40, "--all", "HEAD; ls", ""])
def test_a_commit_that_is_not_here_has_no_facts(revision: str) -> None:
    commit("one")
    assert history.commit_facts(revision) is None


def test_pins_come_and_go_by_commits() -> None:
    first = commit("pin it", configs__deploy__local=f"release: {ONE}\n")
    commit("elsewhere", configs__finetune__x=f"release: {ONE}\n")
    last = commit("revert", configs__deploy__local=f"release: {TWO}\n")
    assert [(one["sha"], one["subject"]) for one in history.pinned_by(ONE)] == [(first, "pin it"), (last, "revert")]


def test_pointers_of_every_branch_even_removed_ones() -> None:
    Path("releases").mkdir()
    for name in ("a.b@" + "1" * 12, "c@" + "2" * 12):
        Path(f"releases/{name}.dvc").write_text("outs: []\n")
    sha = commit("pointers")
    git("rm", "-q", f"releases/a.b@{'1' * 12}.dvc")
    commit("one less")
    assert history.pointers() == {"a.b@" + "1" * 12, "c@" + "2" * 12}
    assert history.added_by(Path(f"releases/a.b@{'1' * 12}.dvc")) == sha
    assert history.added_by(Path("releases/never.dvc")) is None


def test_the_merge_request_is_the_first_that_took_the_commit_in() -> None:
    commit("start")
    git("checkout", "-qb", "feature")
    pin = commit("pin", configs__deploy__local=f"release: {ONE}\n")
    git("checkout", "-q", "main")
    commit("meanwhile")
    assert history.merge_request_of(pin) is None
    merged = merge("feature", "Merge branch 'feature' into 'main'\n\nSee merge request ml/calls!12")
    git("checkout", "-qb", "later")
    commit("more")
    git("checkout", "-q", "main")
    merge("later", "Merge branch 'later' into 'main'\n\nSee merge request ml/calls!13")
    assert history.merge_request_of(pin) == {"reference": "ml/calls!12", "merged_by": merged}


def test_a_squashed_commit_names_its_own_merge_request() -> None:
    sha = commit("Pin calls\n\nSee merge request ml/group/calls!7")
    assert history.merge_request_of(sha) == {"reference": "ml/group/calls!7", "merged_by": sha}


@pytest.mark.parametrize(
    "origin",
    [
        "git@gitlab.example:ml/calls.git",
        "ssh://git@gitlab.example:2222/ml/calls.git",
        "https://gitlab.example/ml/calls.git",
        "https://ci:glpat-secret-of-ours@gitlab.example/ml/calls.git",
    ],
)
def test_its_address_is_where_origin_is_without_the_login(origin: str) -> None:
    git("remote", "add", "origin", origin)
    assert history.web_address("ml/calls", "12") == "https://gitlab.example/ml/calls/-/merge_requests/12"


def test_without_a_server_there_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git("remote", "add", "origin", str(tmp_path / "bare.git"))
    assert history.web_address("ml/calls", "12") is None
    monkeypatch.setenv("CI_SERVER_URL", "https://gitlab.example/")
    assert history.web_address("ml/calls", "12") == "https://gitlab.example/ml/calls/-/merge_requests/12"
