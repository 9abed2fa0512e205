"""The local stores brought out of build/, once, by the first command that needs them; killed at any moment, the next
one goes on. Of the standard library alone, for `make clean` does it too."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from configs.errors import ExternalError
from infra.files.in_use import users_of
from infra.files.moves import merge_directory, move_file
from infra.state.places import (
    DVC_REMOTE,
    EARLIER_DVC_REMOTE,
    LOOKS,
    MLFLOW_ARTIFACTS,
    MLFLOW_DATABASE,
    OLDEST_LOOKS,
    STORES,
    earlier,
)


def settle_dvc_remote() -> None:
    """Unless the checkout's DVC still names the old place as its remote. Raises ExternalError while somebody pushes or
    pulls there."""
    settings = [path for name in ("config", "config.local") if (path := Path(".dvc") / name).exists()]
    if not any(EARLIER_DVC_REMOTE.as_posix() in path.read_text(encoding="utf8") for path in settings):
        settle(DVC_REMOTE)


def settle_looks() -> None:
    """Looks at test rows that this machine counted, and the remote may not know yet."""
    settle(LOOKS)
    if earlier(OLDEST_LOOKS).exists() and not OLDEST_LOOKS.exists():
        with one_at_a_time():
            move_file(earlier(OLDEST_LOOKS), OLDEST_LOOKS)


def settle(place: Path) -> None:
    """What both have, alike, is there once; what differs stays where it was, and is said."""
    old = earlier(place)
    if not old.exists():
        return
    refuse_in_use(old, place)
    try:
        with one_at_a_time():
            left = merge_directory(old, place)
    except OSError as error:
        raise ExternalError(
            f"{old}: cannot be moved to {place}: {error.strerror or error}", hint=f"df -h .; ls -ld {old} {STORES}"
        ) from error
    if left:
        tell(f"warning: {left} files of {old} are others than those of {place}: they stay there and are not read")
    else:
        tell(f"{old} was moved to {place}")


def refuse_in_use(old: Path, place: Path) -> None:
    pids = users_of(old)
    if pids:
        raise ExternalError(
            f"{old}: processes {', '.join(map(str, pids))} use it, and it is to be moved to {place}",
            hint=f"ps -fp {','.join(map(str, pids))}; the same command again when they have ended",
        )


@cache
def mlflow_database(checkout: Path) -> Path:
    """Absolute; decided once a process, which may hold it open. The old one while others use it, or where it cannot be
    moved: MLflow is a view, and keeps nothing from going on."""
    new, old = (checkout / place for place in (MLFLOW_DATABASE, earlier(MLFLOW_DATABASE)))
    if not old.exists():
        return new
    if new.exists():
        tell(f"warning: {old} is not read: {new} is MLflow's database")
        return new
    if old.stat().st_uid != os.geteuid() or users_of(old):
        tell(f"MLflow's database stays {old}, which is in use or another user's; a later command moves it to {STORES}/")
        return old
    try:
        with one_at_a_time():
            if old.exists():
                move_mlflow(old, new)
                tell(f"MLflow's database and artifacts were moved from {old.parent} to {new.parent}")
    except (OSError, sqlite3.Error) as error:
        tell(f"warning: MLflow's database stays {old}: {error}")
        return old
    return new


def move_mlflow(old: Path, new: Path) -> None:
    """The artifacts, then what the database says of their place, then the database itself: each step may be done
    again."""
    before, now = (place.with_name(MLFLOW_ARTIFACTS) for place in (old, new))
    if before.exists():
        merge_directory(before, now)
    repoint(old, before.resolve().as_uri(), now.resolve().as_uri())
    move_file(old, new)


def repoint(database: Path, before: str, now: str) -> None:
    """In every column of text, in one transaction; a journal that a kill left is played back first, and none is left
    beside."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("pragma journal_mode = delete")
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in connection.execute(f'pragma table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    connection.execute(
                        f'update "{table}" set "{column}" = ? || substr("{column}", ?) '
                        f'where "{column}" = ? or substr("{column}", 1, ?) = ?',
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


@contextmanager
def one_at_a_time() -> Iterator[None]:
    STORES.mkdir(exist_ok=True)
    with (STORES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tell(line: str) -> None:
    print(line, file=sys.stderr)
