"""An environment's state comes home: once, said, whole after a kill at any moment, and never under what runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.environment.config import DeployConfig
from configs.environment.state import home_of
from configs.errors import ExternalError, InputError
from infra.state.folder import state_folder
from infra.state.home import settle
from tests.support.old_records import started_line

pytestmark = pytest.mark.unit
OLD = Path("build/deploy/live")
LIVE = DeployConfig.model_validate({"name": "live", "model": "m", "gate": None})
FILES = {
    "events.jsonl": started_line(8101),
    "keys.json": "[]",
    "receipts/1.json": "{}",
    "usage/2026-11-25-blue.jsonl": "{}\n" * 500,
    "router/haproxy.cfg": "global\n",
}
CHANGES = {
    "os.rename",
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.chmod",
    "shutil.copyfile",
    "shutil.rmtree",
}


@pytest.fixture(params=["same", "other"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of before; the homes on the same file system, or on another."""
    home = Path(tempfile.mkdtemp(dir="/dev/shm")) if request.param == "other" else tmp_path / "home"
    monkeypatch.setenv("TUNEGATE_STATE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (OLD / name).parent.mkdir(parents=True, exist_ok=True)
        (OLD / name).write_text(text)
    yield tmp_path
    if request.param == "other":
        shutil.rmtree(home, ignore_errors=True)


def files_in(folder: Path) -> dict[str, str]:
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(name): (folder / name).read_text() for name in names}


def test_it_moves_whole_and_private_and_says_so_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(LIVE)
    home = home_of("live")
    assert files_in(home) == FILES and not OLD.exists() and state_folder(LIVE) == home
    assert home.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err == f"the state of live was moved from {checkout / OLD} to {home}\n"
    settle(LIVE)
    assert capsys.readouterr().err == "" and files_in(home) == FILES


def test_without_any_the_home_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEGATE_STATE_HOME", str(tmp_path / "some/home"))
    settle(LIVE)
    for folder in (home_of("live"), tmp_path / "some/home", tmp_path / "some"):
        assert folder.stat().st_mode & 0o777 == 0o700


def die_at(number: int) -> int:
    """`settle` in a child that SIGKILL ends just before its change number `number` to any file; the child's exit
    status."""
    child = os.fork()
    if child == 0:
        left = [number]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            settle(LIVE)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_killed_before_any_change_to_a_file_nothing_is_lost_and_the_next_goes_on(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """From its own checkout; and from another one, which knows the old place by the link alone."""
    original, old, home = checkout / "original", checkout / OLD, home_of("live")
    shutil.copytree(old, original)
    (checkout / "other").mkdir()
    monkeypatch.chdir(checkout / "other" if elsewhere else checkout)
    number = 0
    while True:
        number += 1
        if elsewhere:
            home.parent.mkdir(exist_ok=True)
            home.symlink_to(old)
        status = die_at(number)
        assert files_in(state_folder(LIVE)).items() >= FILES.items(), f"killed at {number}, looked at"
        settle(LIVE)
        assert files_in(home) == FILES and not home.is_symlink(), f"killed at {number}"
        assert elsewhere or not (old / "events.jsonl").exists()
        if not os.WIFSIGNALED(status):
            break
        shutil.rmtree(home)
        shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(original, old)
    assert number > 4


@contextmanager
def at_work(program: str) -> Iterator[None]:
    words = [sys.executable, "-c", f"{program}; print('ready', flush=True); sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()


LOG = "import sys; log = open('build/deploy/live/blue.log', 'a')"
ROUTER = (
    "import os, socket, sys; s = socket.socket(socket.AF_UNIX); old = os.getcwd(); "
    "os.chdir('build/deploy/live/router'); s.bind('admin.sock'); s.listen(); os.chdir(old)"
)
AGENT = "import fcntl, sys; f = open('build/deploy/live/lock', 'a'); fcntl.flock(f, fcntl.LOCK_EX)"


@pytest.mark.parametrize("program", [LOG, ROUTER, AGENT], ids=["server", "router", "agent"])
def test_while_anything_runs_it_stays_and_every_checkout_finds_it(
    checkout: Path, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, old = home_of("live"), checkout / OLD
    with at_work(program):
        inode = (old / "events.jsonl").stat().st_ino
        for _ in range(2):
            settle(LIVE)
            said = capsys.readouterr().err
            assert said.count("\n") == 1 and f"stays in {old}" in said and "until `tunegate stop live`" in said
        assert home.is_symlink() and (home / "events.jsonl").stat().st_ino == inode
        other = checkout / "other"
        other.mkdir()
        monkeypatch.chdir(other)
        settle(LIVE)
        assert (state_folder(LIVE) / "events.jsonl").stat().st_ino == inode, "the other checkout's too"
    settle(LIVE)
    assert not home.is_symlink() and files_in(home).items() >= FILES.items() and not old.exists()


def test_a_command_that_holds_the_environment_itself_moves_nothing_under_itself(checkout: Path) -> None:
    """An agent whose YAML no longer says `state_dir: build/deploy/live`."""
    with (OLD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settle(LIVE)
        assert state_folder(LIVE).samefile(OLD)


def test_another_record_in_the_old_place_is_left_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home_of("live").mkdir(parents=True)
    (home_of("live") / "events.jsonl").write_text(started_line(8201) * 2)
    settle(LIVE)
    assert files_in(OLD) == FILES and capsys.readouterr().err == ""
    with at_work(LOG):
        settle(LIVE)
    said = capsys.readouterr().err
    assert f"{OLD} holds another record" in said and "tunegate stop live" in said


def test_what_lies_at_home_without_a_record_makes_room_and_is_kept(checkout: Path) -> None:
    home_of("live").mkdir(parents=True)
    (home_of("live") / "api_key").write_text("secret")
    settle(LIVE)
    assert files_in(home_of("live")) == FILES
    assert (home_of("live").with_name(".live.without-record") / "api_key").read_text() == "secret"


def test_a_link_to_a_checkout_that_is_gone_is_taken_away_and_one_of_the_operators_stays(checkout: Path) -> None:
    shutil.rmtree(OLD)
    home = home_of("live")
    home.parent.mkdir(exist_ok=True)
    home.symlink_to(checkout / "gone/build/deploy/live")
    settle(LIVE)
    assert home.is_dir() and not home.is_symlink()
    home.rmdir()
    (checkout / "disk/live").mkdir(parents=True)
    home.symlink_to(checkout / "disk/live")
    settle(LIVE)
    assert home.is_symlink() and state_folder(LIVE) == home


def test_a_state_of_another_user_is_not_moved(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: OLD.stat().st_uid + 1)
    with pytest.raises(InputError, match="is user"):
        settle(LIVE)
    assert files_in(OLD) == FILES


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEGATE_STATE_HOME", str(tmp_path / "file/home"))
    with pytest.raises(ExternalError, match="cannot be made"):
        settle(LIVE)
