"""Whole or absent, also when the process dies at the worst moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.digest import key_of
from infra.files.atomic import clear_partials, new_directory, new_file, read_json, write_json, write_private, write_text

pytestmark = pytest.mark.unit
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_finished_block_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "release"
    target.mkdir()
    (target / "old").touch()
    with new_directory(target) as partial:
        (partial / "new").touch()
        assert (target / "old").exists(), "the old one stands until the new one is whole"
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["release"], "nothing is left beside it"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "release"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), new_directory(target) as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_an_error_before_anything_was_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "build" / "x" / "data"):
        raise KeyboardInterrupt
    assert not (tmp_path / "build" / "x" / "data").exists()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / f".data.{dead_pid()}.partial"
    left.mkdir()
    (left / "half.parquet").touch()
    clear_partials(tmp_path / "data")
    assert not left.exists()


def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / f".data.{os.getppid()}.partial"
    theirs.mkdir()
    with new_directory(tmp_path / "data"):
        assert theirs.exists()
    assert theirs.exists()


def test_only_this_targets_leftovers_are_cleared(tmp_path: Path) -> None:
    other = tmp_path / f".adapter.{dead_pid()}.partial"
    other.mkdir()
    clear_partials(tmp_path / "data")
    assert other.exists()


@given(st.dictionaries(st.text(), JSON))
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, value)
    assert read_json(path) == value
    assert [found.name for found in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("text", ["", "[1]", "null", '{"a": ', "\x00"])
def test_what_is_no_json_object_reads_as_none(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "x.json", text)
    assert read_json(tmp_path / "x.json") is None


def test_a_missing_file_reads_as_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    assert read_json(tmp_path) is None, "so does a directory"


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_a_key_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert key_of(value) == key_of(dict(reversed(value.items())))


@given(st.lists(JSON, min_size=1), JSON)
def test_a_key_depends_on_every_part(parts: list[Any], more: Any) -> None:
    assert key_of(*parts) != key_of(*parts, more)
    assert key_of(*parts) != key_of(parts)


def test_only_the_owner_may_read_what_is_private_also_where_a_kill_left_an_open_partial(tmp_path: Path) -> None:
    target = tmp_path / "keys" / "keys.json"
    target.parent.mkdir()
    (target.parent / "keys.json.partial").write_text("torn")
    write_private(target, "secret")
    assert target.read_text() == "secret" and target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["keys.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "card.html", "old")
    with pytest.raises(RuntimeError), new_file(tmp_path / "card.html") as partial:
        partial.write_text("new")
        raise RuntimeError
    assert (tmp_path / "card.html").read_text() == "old"
