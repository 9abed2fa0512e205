"""Following a file: every line once and whole, whoever writes, cuts or replaces it meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.view.tail import Tail

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.log"


def test_no_file_is_no_line_and_one_that_comes_is_read_from_its_beginning(path: Path) -> None:
    tail = Tail(path)
    assert list(tail.read()) == []
    path.write_text("one\ntwo\n")
    assert list(tail.read()) == ["one", "two"] and list(tail.read()) == []


@given(lines=st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf8")), max_size=8), data=st.data())
def test_every_line_comes_once_and_whole_wherever_the_writer_paused(tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("tail") / "some.log"
    written = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=5)))
    tail, found = Tail(path), []
    for start, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        with path.open("ab") as stream:
            stream.write(written[start:end])
        found += list(tail.read())
    assert found == lines and tail.rest == b""


def test_a_file_that_was_cut_or_replaced_is_read_from_its_beginning(path: Path) -> None:
    tail = Tail(path)
    path.write_text("one\ntwo\nhal")
    assert list(tail.read()) == ["one", "two"]
    path.write_text("cut\n")  # as logrotate's copytruncate does
    assert list(tail.read()) == ["cut"]
    other = path.with_name("other")
    other.write_text("another file, and a longer one\n")
    other.replace(path)
    assert list(tail.read()) == ["another file, and a longer one"]


def test_what_is_no_text_is_shown_as_such(path: Path) -> None:
    path.write_bytes(b"\xff\n")
    assert list(Tail(path).read()) == ["\ufffd"]


def test_a_follower_reads_what_a_writer_appends_and_ends_with_all_of_it(path: Path) -> None:
    path.write_text("0\n")
    done = threading.Event()

    def write() -> None:
        for number in range(1, 40):
            with path.open("a") as stream:
                stream.write(f"{number}")
                stream.flush()
                stream.write("\n")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    found = list(Tail(path).follow(done.is_set))
    writer.join()
    assert found == [str(number) for number in range(40)]
