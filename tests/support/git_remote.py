"""A real bare remote, and the clone of a person who pushes to it. Keys are made by ssh-keygen, as people make them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.git.upstream import Upstream

QUIET = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def run_git(folder: Path, *arguments: str) -> str:
    """As no git hook around the tests would have it, and with no setting of this machine's user."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | QUIET
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-c", "gpg.format=ssh", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Remote:
    """`bare` is the remote, `person` the clone whose pushes are this test's story, `clone` the one that follows."""

    folder: Path

    @property
    def bare(self) -> Path:
        return self.folder / "remote.git"

    @property
    def person(self) -> Path:
        return self.folder / "person"

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def signers(self) -> Path:
        return self.folder / "signers"

    def begin(self, files: dict[str, str]) -> str:
        """A first commit on main, and both clones of it."""
        self.folder.mkdir(exist_ok=True)
        run_git(self.folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        run_git(self.folder, "init", "-q", "-b", "main", str(self.person))
        run_git(self.person, "remote", "add", "origin", str(self.bare))
        first = self.push(files)
        run_git(self.folder, "clone", "-q", str(self.bare), str(self.clone))
        return first

    def key(self, name: str, *, listed: bool = False) -> Path:
        """An SSH key; a `listed` one is of those who may sign."""
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
        with self.signers.open("a") as stream:
            stream.write(f'ada@localhost namespaces="git" {path.with_suffix(".pub").read_text()}' if listed else "")
        return path

    def commit(self, files: dict[str, str], key: Path | None = None) -> str:
        for name, text in files.items():
            path = self.person / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run_git(self.person, "add", "-A")
        sign = ["-c", f"user.signingkey={key}", "-c", "commit.gpgsign=true"] if key else []
        run_git(self.person, *sign, "commit", "-q", "--allow-empty", "-m", ", ".join(files) or "nothing")
        return run_git(self.person, "rev-parse", "HEAD")

    def push(self, files: dict[str, str] | None = None, key: Path | None = None, *, force: bool = False) -> str:
        """What the person has, after one more commit where files are given; the remote's newest commit then."""
        if files is not None:
            self.commit(files, key)
        run_git(self.person, "push", "-q", *(["--force"] if force else []), "origin", "main")
        return run_git(self.person, "rev-parse", "HEAD")

    def rewind(self, commits: int) -> None:
        run_git(self.person, "reset", "-q", "--hard", f"HEAD~{commits}")

    def branches(self) -> dict[str, str]:
        """The remote's, by name, with their commits."""
        lines = run_git(self.bare, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()
        return dict(line.split() for line in lines)  # type: ignore[misc]  # two words each


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    found = Remote(tmp_path)
    found.begin({"pin.yaml": "release: one\n", "other.txt": "as it was\n"})
    return found


@pytest.fixture
def upstream(remote: Remote) -> Upstream:
    return Upstream.of("origin/main", folder=remote.clone)
