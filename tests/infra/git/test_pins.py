"""What a file of configs/deploy pins and pinned, by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from configs.errors import ExternalError
from infra.git.pins import BASE, last_pinned, pinned_before

pytestmark = pytest.mark.unit
YAML = Path("configs/deploy/live.yaml")
ONE, TWO = (f"{name}@sha256:{digit * 64}" for name, digit in (("one", "1"), ("two", "2")))


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(BASE, raising=False)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    git("init", "-q")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(release: str | None) -> str:
    YAML.parent.mkdir(parents=True, exist_ok=True)
    YAML.write_text(f"name: live\nrelease: {release or 'null'}  # the pin\nrelease_gate: gate.yaml\n")
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", str(release))
    return git("rev-parse", "HEAD")


def test_in_a_merge_request_the_pin_is_that_of_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own pin serves nowhere yet: a second push is judged against what the first was."""
    began = commit(ONE)
    commit(TWO)
    assert pinned_before(YAML, TWO) == TWO
    monkeypatch.setenv(BASE, began)
    assert pinned_before(YAML, TWO) == ONE == last_pinned(YAML)
    assert pinned_before(Path("configs/deploy/another.yaml"), TWO) is None


def test_an_environment_that_the_request_itself_makes_has_never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("README.md").write_text("hello")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    monkeypatch.setenv(BASE, git("rev-parse", "HEAD"))
    commit(ONE)
    assert pinned_before(YAML, ONE) is None and last_pinned(YAML) is None


def test_where_the_request_began_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    commit(ONE)
    monkeypatch.setenv(BASE, "f" * 40)
    with pytest.raises(ExternalError, match=BASE) as caught:
        pinned_before(YAML, ONE)
    assert "GIT_DEPTH" in str(caught.value.hint)


def test_what_was_pinned_last_is_known_also_after_it_was_taken_away() -> None:
    assert last_pinned(YAML) is None, "no commit yet"
    commit(None)
    assert last_pinned(YAML) is None
    for release in (ONE, TWO, None):
        commit(release)
    assert last_pinned(YAML) == TWO and last_pinned(Path("elsewhere.yaml")) is None
