"""A folder is moved whole, within a file system and to another one."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.files.moves import move_directory

pytestmark = pytest.mark.unit


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to be had")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def fill(folder: Path) -> dict[str, tuple[int, bytes]]:
    (folder / "router").mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(b"{}\n" * 1000)
    (folder / "keys.json").write_bytes(b"[]")
    (folder / "keys.json").chmod(0o600)
    (folder / "router/link").symlink_to("../keys.json")
    return contents(folder)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_within_a_file_system_it_is_the_same_folder(tmp_path: Path) -> None:
    before = fill(tmp_path / "old")
    inode = (tmp_path / "old").stat().st_ino
    move_directory(tmp_path / "old", tmp_path / "new/name")
    assert contents(tmp_path / "new/name") == before and (tmp_path / "new/name").stat().st_ino == inode
    assert not (tmp_path / "old").exists()


def test_to_another_file_system_it_is_a_whole_copy_and_sockets_stay_behind(tmp_path: Path, elsewhere: Path) -> None:
    before = fill(elsewhere / "old")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(elsewhere / "old/admin.sock"))
        os.mkfifo(elsewhere / "old/pipe")
        move_directory(elsewhere / "old", tmp_path / "new")
    assert contents(tmp_path / "new") == before
    assert not (elsewhere / "old").exists() and not (tmp_path / ".new.moving").exists()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"router", "events.jsonl", "keys.json"}


def test_what_a_killed_copy_left_is_begun_anew(tmp_path: Path, elsewhere: Path) -> None:
    before = fill(elsewhere / "old")
    (tmp_path / ".new.moving").mkdir()
    (tmp_path / ".new.moving/events.jsonl").write_text("half")
    move_directory(elsewhere / "old", tmp_path / "new")
    assert contents(tmp_path / "new") == before
