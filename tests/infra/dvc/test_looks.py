"""Looks at test rows, in the DVC remote: a fresh clone sees them all, and no writer loses another's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from configs.errors import ExternalError
from infra.dvc import looks
from infra.dvc.looks import Look, count, count_here, count_in_remote
from infra.state.places import LOOKS
from tests.support.releases import checkout

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("checkout")]
GATE = "sha256:" + "e" * 64


def look(number: int, rows: str = "sha256:rows", sketch: tuple[str, ...] = ("1", "2")) -> Look:
    return Look(rows, sketch, f"sha256:{number:064x}", GATE)


def overlap(one: Look, sketch: list[str] | None) -> bool:
    return sketch is None or bool({*one.sketch} & {*sketch})


def test_another_clone_goes_on_with_the_count() -> None:
    assert [count_in_remote(look(number), overlap) for number in (1, 2, 1)] == [1, 2, 1]
    shutil.rmtree(LOOKS, ignore_errors=True)  # a fresh clone has nothing but the remote
    assert count_in_remote(look(3), overlap) == 3
    assert count_in_remote(look(4, "sha256:more-rows", ("2", "3")), overlap) == 4
    assert count_in_remote(look(4, "sha256:others", ("8",)), overlap) == 1


def test_what_was_looked_at_offline_is_handed_in_and_counts() -> None:
    assert [count_here(look(number), overlap) for number in (1, 2)] == [1, 2]
    assert count_in_remote(look(3), overlap) == 3
    shutil.rmtree(LOOKS)
    assert count_in_remote(look(2), overlap) == 3, "its number in the store is not the one that it had offline"


def test_a_kill_between_two_writes_leaves_a_look_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    written = looks.write

    def killed(files: object, path: str, value: object) -> None:
        if isinstance(value, dict) and "look" in value:
            raise KeyboardInterrupt
        written(files, path, value)

    with monkeypatch.context() as patched:
        patched.setattr(looks, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            count_here(look(1), overlap)
    assert count_here(look(2), overlap) == 2 and count_here(look(1), overlap) == 2
    (LOOKS / "rows" / look(1).file).write_text('{"lo')
    assert count_here(look(3), overlap) == 3


def test_writers_at_once_lose_no_look(tmp_path: Path) -> None:
    from dvc.fs import LocalFileSystem

    place = str(tmp_path / "looks")

    def one(number: int) -> int:
        rows = f"sha256:{number % 3}"  # of the same rows, and of parts of them
        return count(LocalFileSystem(), place, look(number, rows), overlap)

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(pool.map(one, range(24)))
    assert all(number >= place for place, number in enumerate(numbers, 1)), "nobody is told of fewer than there were"
    assert count(LocalFileSystem(), place, look(99), overlap) == 25


def test_a_remote_that_does_not_answer_is_an_error_of_the_world() -> None:
    Path(".dvc/config").write_text("[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://nowhere\n")
    with pytest.raises(ExternalError):
        count_in_remote(look(1), overlap)
