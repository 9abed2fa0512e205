"""Who works in a folder is seen, however it does; who does not is not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.files.in_use import answers, users_of

pytestmark = pytest.mark.unit
WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


@contextmanager
def process(*command: str, **facts: object) -> Iterator[int]:
    found = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **facts)  # type: ignore[call-overload]
    try:
        assert found.stdout.readline() == "ready\n"
        yield found.pid
    finally:
        found.stdin.close()
        found.wait(10)
        found.stdout.close()


def test_who_works_there_or_has_a_file_of_it_open_uses_it(tmp_path: Path) -> None:
    here, beside = tmp_path / "here", tmp_path / "here-too"
    (here / "router").mkdir(parents=True)
    beside.mkdir()
    assert users_of(here) == []
    with process(sys.executable, "-c", WAIT, cwd=here / "router") as pid:
        assert users_of(here) == [pid]
    opens = f"log = open({str(here / 'blue.log')!r}, 'a'); {WAIT}"
    with process(sys.executable, "-c", opens) as pid:
        assert users_of(here) == [pid]
    with process(sys.executable, "-c", WAIT, cwd=beside):
        assert users_of(here) == []
    with (here / "blue.log").open():
        assert users_of(here) == [], "this process itself is none"


def test_a_program_of_an_environment_is_seen_by_the_name_that_it_was_called(tmp_path: Path) -> None:
    """A virtual environment's interpreter is a link to another."""
    program = tmp_path / ".venv-serve/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    with process(str(program), "-S", "-c", WAIT) as pid:
        assert users_of(tmp_path / ".venv-serve") == [pid]
        (tmp_path / "link").symlink_to(".venv-serve")
        assert users_of(tmp_path / "link") == [pid]


def test_a_socket_answers_while_somebody_listens_however_deep_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 40) / "router"
    folder.mkdir(parents=True)
    assert not answers(folder / "admin.sock") and not answers(tmp_path / "none/admin.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        shutil.move(tmp_path / "s", folder / "admin.sock")
        assert answers(folder / "admin.sock")
    assert (folder / "admin.sock").exists() and not answers(folder / "admin.sock")
