"""Many files hashed at once are hashed as one after the other."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.digest import hash_files, sha256_of

pytestmark = pytest.mark.unit


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(max_size=40), max_size=12))
def test_each_file_has_its_own_hash_in_the_order_asked(tmp_path: Path, contents: list[bytes]) -> None:
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert hash_files(paths) == [hashlib.sha256(content).hexdigest() for content in contents]


def test_all_cores_hash_at_once_the_largest_first_and_no_thread_is_left(tmp_path: Path) -> None:
    """A process that forks later must have no thread."""
    cores = len(os.sched_getaffinity(0))
    together = threading.Barrier(cores, timeout=60)
    begun: list[int] = []

    def hash_file(path: Path) -> str:
        begun.append(path.stat().st_size)
        if len(begun) <= cores:
            together.wait()
        return path.name

    paths = [tmp_path / str(size) for size in range(3 * cores)]
    for path in paths:
        path.write_bytes(bytes(int(path.name)))
    before = threading.active_count()
    assert hash_files(paths, hash_file) == [path.name for path in paths]
    assert set(begun[:cores]) == set(range(2 * cores, 3 * cores))
    assert threading.active_count() == before


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(FileNotFoundError):
        hash_files([tmp_path / "here", tmp_path / "gone"])
    with pytest.raises(IsADirectoryError):
        hash_files([tmp_path / "here", tmp_path], sha256_of)
