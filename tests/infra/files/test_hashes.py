"""Hashed once, and again whenever the bytes may be others."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.digest import sha256_of
from configs.release import list_files
from infra.files import hashes as module
from infra.files.hashes import FileHashes, remembered

pytestmark = pytest.mark.unit
SETTLED = 0.05


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose bytes were read."""
    seen: list[Path] = []

    def hashed(path: Path) -> str:
        seen.append(path)
        return sha256_of(path)

    monkeypatch.setattr(module, "sha256_of", hashed)
    return seen


@pytest.fixture(autouse=True)
def _files_settle_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's file system counts in steps of a few milliseconds."""
    monkeypatch.setattr(module, "SETTLED_SECONDS", SETTLED)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    settle(path)
    return path


def settle(path: Path) -> None:
    """Its change time is the kernel's alone: what is left is to wait."""
    os.utime(path, (time.time() - 100, time.time() - 100))
    time.sleep(1.5 * SETTLED)


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


def test_an_old_time_set_on_a_file_just_written_does_not_make_it_trusted(tmp_path: Path, read: list[Path]) -> None:
    """The next write could set it too, in the same step of the kernel's clock."""
    path = tmp_path / "fresh"
    path.write_bytes(b"one")
    os.utime(path, (time.time() - 100, time.time() - 100))
    for _ in range(2):
        ask(tmp_path, path)
    assert len(read) == 2


def test_a_file_that_was_young_when_its_reading_began_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one is read for longer than a step of the clock: what was written into it in that step, behind the
    reader, would go unseen."""
    path = tmp_path / "large"
    path.write_bytes(b"one")
    monkeypatch.setattr(module, "sha256_of", lambda path: (time.sleep(2 * SETTLED), sha256_of(path))[1])
    hashes = FileHashes(tmp_path / "c/hashed.json")
    hashes.sha256_of(path)
    assert hashes.fresh == {}


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(path: Path) -> str:
        digest = sha256_of(path)
        path.write_bytes(b"two")
        return digest

    monkeypatch.setattr(module, "sha256_of", overtaken)
    ask(tmp_path, weights)
    monkeypatch.undo()
    assert ask(tmp_path, weights) == sha256_of(weights)


def test_afresh_every_byte_is_read_and_then_known(tmp_path: Path, weights: Path, read: list[Path]) -> None:
    ask(tmp_path, weights)
    hashes = FileHashes(tmp_path / "build/hashed.json", afresh=True)
    hashes.sha256_of(weights)
    hashes.keep()
    assert read == [weights] * 2
    ask(tmp_path, weights)
    assert read == [weights] * 2


EDITS = ("overwrite", "replace", "copy_times", "truncate", "append", "swap", "link", "restore", "wait", "ask")


@given(st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 2), st.binary(min_size=1, max_size=2)), max_size=12))
def test_the_hash_is_right_whatever_was_done_to_the_files(edits: list[tuple[str, int, bytes]]) -> None:
    """Of any three files, asked by a new process after each edit: their hashes are those of their bytes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{number}" for number in range(3)]
        for path in files:
            path.write_bytes(b"ab")
        for kind, number, content in edits:
            edit(kind, files[number], files[number - 1], content)
            assert [ask(folder, path) for path in files] == [sha256_of(path) for path in files]


def edit(kind: str, path: Path, other: Path, content: bytes) -> None:
    before = path.stat()
    match kind:
        case "overwrite":
            path.write_bytes(content)
        case "replace":
            path.with_name("new").write_bytes(content)
            os.replace(path.with_name("new"), path)
        case "copy_times":
            path.write_bytes(content)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "truncate":
            os.truncate(path, len(content) - 1)
        case "append":
            with path.open("ab") as stream:
                stream.write(content)
        case "swap":
            os.replace(path, path.with_name("aside"))
            os.replace(other, path)
            os.replace(path.with_name("aside"), other)
        case "link":
            path.unlink()
            os.link(other, path)
        case "restore":
            path.unlink()
            shutil.copy2(other, path)
        case "wait":
            time.sleep(1.2 * SETTLED)


def test_a_release_is_read_once_and_by_several_threads_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    monkeypatch.setenv("TUNEGATE_CACHE_HOME", str(tmp_path / "cache"))
    release = tmp_path / "release"
    for number in range(40):
        path = release / f"{number % 4}" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(number)) * number)
    time.sleep(1.5 * SETTLED)
    for _ in range(3):
        with remembered() as hash_file:
            found = list_files(release, hash_file)
        assert found == list_files(release)
        assert [file.path for file in found] == sorted(file.path for file in found)
    assert len(read) == len(set(read)) == 40


def test_a_hard_link_needs_no_second_reading(tmp_path: Path, weights: Path, read: list[Path]) -> None:
    hashes = FileHashes(tmp_path / "build/hashed.json")
    hashes.sha256_of(weights)
    hashes.link(weights, tmp_path / "linked")
    hashes.keep()
    assert ask(tmp_path, tmp_path / "linked") == ask(tmp_path, weights)
    assert len(read) == 1


@pytest.mark.parametrize("content", ["{", '{"a.csv": [1, 2, "old"]}', '{"1:2": "x"}', "THESE", "HALF"])
def test_entries_of_another_form_are_as_good_as_none(tmp_path: Path, weights: Path, content: str) -> None:
    """`THESE`: of this very file, by an earlier tunegate or spoiled."""
    state = weights.stat()
    entry = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    mine = {"THESE": [*entry, None, str(weights)], "HALF": entry}
    (tmp_path / "build").mkdir()
    path = tmp_path / "build/hashed.json"
    path.write_text(json.dumps({module.key_of_file(state): mine[content]}) if content in mine else content)
    path.chmod(0o600)
    assert ask(tmp_path, weights) == sha256_of(weights)
    assert [state[3] for state in FileHashes(tmp_path / "build/hashed.json").known.values()] == [sha256_of(weights)]
