"""Hashed once, and again whenever the bytes may be others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.digest import sha256_of
from infra.files import hashes as module
from infra.files.hashes import FileHashes
from tests.paths import ROOT

pytestmark = pytest.mark.unit


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read."""
    seen: list[Path] = []

    def hashed(path: Path) -> str:
        seen.append(path)
        return sha256_of(path)

    monkeypatch.setattr(module, "sha256_of", hashed)
    return seen


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    settle(path)
    return path


def settle(path: Path) -> None:
    os.utime(path, (time.time() - 100, time.time() - 100))


def ask(tmp_path: Path, path: Path) -> str:
    """As another process would: what is known is read from the file."""
    hashes = FileHashes(tmp_path / "build/hashed.json")
    found = hashes.sha256_of(path)
    hashes.keep()
    return found


def test_a_file_is_read_once_for_all_processes(tmp_path: Path, weights: Path, read: list[Path]) -> None:
    assert {ask(tmp_path, weights) for _ in range(3)} == {sha256_of(weights)}
    assert read == [weights]


@pytest.mark.parametrize("kept_times", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_other_bytes_of_the_same_size_are_seen(tmp_path: Path, weights: Path, kept_times: bool, replaced: bool) -> None:
    """Also where the writer sets the old time, as tar, rsync and package managers do."""
    before = weights.stat()
    ask(tmp_path, weights)
    if replaced:
        weights.unlink()
    weights.write_bytes(b"two")
    if kept_times:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(tmp_path, weights) == sha256_of(weights)


def test_a_file_just_written_is_not_trusted_to_stay(tmp_path: Path, read: list[Path]) -> None:
    path = tmp_path / "fresh"
    path.write_bytes(b"one")
    os.utime(path, (time.time() + 5, time.time() + 5))
    for _ in range(2):
        ask(tmp_path, path)
    assert len(read) == 2


def test_a_hard_link_needs_no_second_reading(tmp_path: Path, weights: Path, read: list[Path]) -> None:
    hashes = FileHashes(tmp_path / "build/hashed.json")
    hashes.sha256_of(weights)
    hashes.link(weights, tmp_path / "linked")
    hashes.keep()
    assert ask(tmp_path, tmp_path / "linked") == ask(tmp_path, weights)
    assert len(read) == 1


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Each adds files of its own, at the same time."""
    code = (
        "import sys; from pathlib import Path; from infra.files.hashes import FileHashes\n"
        "for file in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    hashes = FileHashes(Path('hashed.json')); hashes.sha256_of(file.absolute()); hashes.keep()\n"
    )
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            (tmp_path / folder / str(number)).write_text(f"{folder}{number}")
            settle(tmp_path / folder / str(number))
    writers = [
        subprocess.Popen([sys.executable, "-c", code, folder], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
        for folder in ("a", "b")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(FileHashes(tmp_path / "hashed.json").known) == 40


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a.csv": [1, 2, "old"]}', '{"1:2": "x"}'])
def test_a_file_of_another_form_is_as_good_as_none(tmp_path: Path, weights: Path, content: str) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build/hashed.json").write_text(content)
    assert ask(tmp_path, weights) == sha256_of(weights)
    assert [state[3] for state in FileHashes(tmp_path / "build/hashed.json").known.values()] == [sha256_of(weights)]
