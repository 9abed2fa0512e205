"""The local stores leave build/: whole after a kill at any moment, said, and found by what reads them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from configs.errors import ExternalError
from infra.state import stores
from infra.state.stores import mlflow_database, settle_dvc_remote, settle_looks

pytestmark = pytest.mark.unit
OLD = Path("build/dvc-remote")
OBJECTS = {"files/md5/ab/cd": "weights", "files/md5/ef/01.dir": "[]", "looks/r/rows.json": "{}"}
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "shutil.rmtree", "sqlite3.connect"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mlflow_database.cache_clear()
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("['remote \"storage\"']\n    url = ../stores/dvc\n")
    return tmp_path


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def files_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def die_at(number: int, work: Callable[[], object]) -> bool:
    """`work` in a child that SIGKILL ends just before its change number `number` to any file; whether it came so
    far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in CHANGES:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@contextmanager
def opened(path: Path) -> Iterator[int]:
    words = [sys.executable, "-c", f"import sys; f = open({str(path)!r}); print('ready', flush=True); sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()


def test_the_remote_moves_whole_and_says_so_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(OLD, OBJECTS)
    settle_dvc_remote()
    assert files_in(Path("stores/dvc")) == OBJECTS and not OLD.exists()
    assert capsys.readouterr().err == "build/dvc-remote was moved to stores/dvc\n"
    settle_dvc_remote()
    assert capsys.readouterr().err == ""


def test_a_remote_that_a_killed_move_or_an_older_branch_left_is_merged(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(OLD, OBJECTS | {"looks/r/one": "older"})
    fill(Path("stores/dvc"), {"files/md5/ab/cd": "weights", "files/md5/99/99": "newer", "looks/r/one": "newer"})
    settle_dvc_remote()
    both = OBJECTS | {"files/md5/99/99": "newer", "looks/r/one": "newer"}
    assert files_in(Path("stores/dvc")) == both and files_in(OLD) == {"looks/r/one": "older"}
    assert "1 files of build/dvc-remote are others" in capsys.readouterr().err


def test_killed_before_any_change_no_object_is_lost(checkout: Path) -> None:
    newer, number = {"files/md5/ab/cd": "weights", "files/md5/99/99": "newer"}, 0
    while True:
        number += 1
        for folder, files in ((OLD, OBJECTS), (Path("stores/dvc"), newer)):
            shutil.rmtree(folder, ignore_errors=True)
            fill(folder, files)
        came = die_at(number, settle_dvc_remote)
        assert (files_in(OLD) | files_in(Path("stores/dvc"))) == OBJECTS | newer, f"killed at {number}"
        settle_dvc_remote()
        assert files_in(Path("stores/dvc")) == OBJECTS | newer and not OLD.exists(), f"killed at {number}"
        if not came:
            break
    assert number > 4


def test_a_remote_that_is_in_use_or_that_dvc_still_names_is_not_moved(checkout: Path) -> None:
    fill(OLD, OBJECTS)
    with opened(OLD / "files/md5/ab/cd") as pid, pytest.raises(ExternalError, match=str(pid)):
        settle_dvc_remote()
    Path(".dvc/config.local").write_text("['remote \"storage\"']\n    url = ../build/dvc-remote\n")
    settle_dvc_remote()
    assert files_in(OLD) == OBJECTS and not Path("stores/dvc").exists()


def test_looks_of_this_machine_come_along(checkout: Path) -> None:
    fill(Path("build"), {"looks/r/a-b": "{}", "looks.jsonl": "{}\n"})
    settle_looks()
    assert files_in(Path("stores")) == {"looks/r/a-b": "{}", "looks.jsonl": "{}\n", ".lock": ""}
    assert not Path("build/looks").exists() and not Path("build/looks.jsonl").exists()


def make_database(checkout: Path) -> None:
    """As MLflow has it: columns of text that name the artifacts' place, and one that only looks like it."""
    there = (checkout / "build/mlartifacts").as_uri()
    fill(Path("build/mlartifacts"), {"1/run/artifacts/model": "weights"})
    with closing(sqlite3.connect("build/mlflow.db")) as connection, connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table experiments (experiment_id INTEGER, artifact_location VARCHAR(256))")
        connection.execute('create table "model_versions" (source VARCHAR(500), version INTEGER)')
        connection.execute("insert into experiments values (1, ?), (2, ?)", (there, f"{there}-other"))
        connection.execute("insert into model_versions values (?, 1)", (f"{there}/1/run/artifacts",))


def rows(database: Path) -> tuple[list[str], list[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return tuple(  # type: ignore[return-value]
            [str(one) for (one,) in connection.execute(f"select {column} from {table} order by 1")]
            for table, column in (("experiments", "artifact_location"), ("model_versions", "source"))
        )


def expected(checkout: Path) -> tuple[list[str], list[str]]:
    now = (checkout / "stores/mlartifacts").as_uri()
    return [(checkout / "build/mlartifacts-other").as_uri(), now], [f"{now}/1/run/artifacts"]


def test_mlflows_database_moves_with_its_artifacts_and_names_their_new_place(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_database(checkout)
    assert mlflow_database(checkout) == checkout / "stores/mlflow.db"
    assert rows(checkout / "stores/mlflow.db") == expected(checkout)
    assert files_in(Path("stores/mlartifacts")) == {"1/run/artifacts/model": "weights"}
    assert list(Path("build").iterdir()) == [] and "were moved" in capsys.readouterr().err


def test_killed_at_any_step_mlflows_database_is_found_whole(checkout: Path) -> None:
    number = 0
    while True:
        number += 1
        shutil.rmtree("build", ignore_errors=True)
        shutil.rmtree("stores", ignore_errors=True)
        Path("build").mkdir()
        make_database(checkout)
        mlflow_database.cache_clear()
        came = die_at(number, lambda: mlflow_database(checkout))
        mlflow_database.cache_clear()
        assert mlflow_database(checkout) == checkout / "stores/mlflow.db"
        assert rows(checkout / "stores/mlflow.db") == expected(checkout), f"killed at {number}"
        assert files_in(Path("stores/mlartifacts")) == {"1/run/artifacts/model": "weights"}, f"killed at {number}"
        if not came:
            break
    assert number > 3


def test_while_others_use_it_it_stays_for_this_process_and_is_moved_by_a_later_one(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_database(checkout)
    with opened(Path("build/mlflow.db")):
        assert mlflow_database(checkout) == checkout / "build/mlflow.db"
    assert mlflow_database(checkout) == checkout / "build/mlflow.db", "which it may hold open"
    assert capsys.readouterr().err.count("stays") == 1
    mlflow_database.cache_clear()
    assert mlflow_database(checkout) == checkout / "stores/mlflow.db"


def test_a_database_that_is_none_stays_and_nothing_fails(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("build"), {"mlflow.db": "no database at all, and longer than a header of one hundred bytes" * 3})
    assert mlflow_database(checkout) == checkout / "build/mlflow.db"
    assert "warning: MLflow's database stays" in capsys.readouterr().err


def test_of_two_databases_the_new_one_is_read(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("."), {"build/mlflow.db": "old", "stores/mlflow.db": "new"})
    assert mlflow_database(checkout) == checkout / "stores/mlflow.db"
    assert files_in(Path("build")) == {"mlflow.db": "old"} and "is not read" in capsys.readouterr().err


def test_a_disk_that_says_no_is_said(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> int:
        raise OSError(28, "No space left on device")

    fill(OLD, OBJECTS)
    monkeypatch.setattr(stores, "merge_directory", full)
    with pytest.raises(ExternalError, match="No space left"):
        settle_dvc_remote()
