"""The revision that runs and releases name: the commit, honest about what was changed since."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.git.command import head_revision

pytestmark = pytest.mark.unit


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # a git hook that runs the tests sets them
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def commit(nowhere: None) -> str:
    """A repository with one commit; its full hash."""
    git("init", "-q")
    Path("tracked.yaml").write_text("release: null\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return git("rev-parse", "HEAD")


def test_a_clean_checkout_is_its_full_commit(commit: str) -> None:
    assert head_revision() == commit and len(commit) == 40


def test_the_newest_commit_counts_and_no_tag_stands_for_it(commit: str) -> None:
    git("tag", "-a", "v1", "-m", "v1")
    assert head_revision() == commit
    git("commit", "-qm", "second", "--allow-empty")
    assert head_revision() == git("rev-parse", "HEAD") != commit


@pytest.mark.parametrize("change", ["edited", "staged", "deleted"])
def test_a_changed_tracked_file_makes_it_dirty(commit: str, change: str) -> None:
    Path("tracked.yaml").unlink() if change == "deleted" else Path("tracked.yaml").write_text("release: other\n")
    if change == "staged":
        git("add", ".")
    assert head_revision() == f"{commit}-dirty"


def test_a_touched_or_untracked_file_does_not(commit: str) -> None:
    Path("tracked.yaml").touch()
    Path("untracked.yaml").write_text("build\n")
    assert head_revision() == commit


def test_a_folder_below_is_the_same_checkout(commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("deep/er").mkdir(parents=True)
    monkeypatch.chdir("deep/er")
    assert head_revision() == commit


def test_no_repository_no_commit_and_no_git_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert head_revision() == "unknown"
    git("init", "-q")
    assert head_revision() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert head_revision() == "unknown"
