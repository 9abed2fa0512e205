"""An environment's state brought home, once, by the first command that changes the environment; killed at any moment,
the next one goes on. Nothing that serves is touched: while anybody works in the old place, the home is a link to it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.environment.state import home_of
from configs.errors import ExternalError, InputError
from infra.files.atomic import private_directory
from infra.files.in_use import answers, users_of
from infra.files.moves import move_directory, sync
from infra.state.folder import arrived_at, as_owner, earlier_place, has_record, owner_of, state_folder
from infra.state.places import EARLIER, RECORD, SHARED


def settle(config: DeployConfig) -> None:
    """The state's folder is there, and is its home or linked to from there. Raises InputError where the state is
    another user's, ExternalError where the disk says no."""
    folder = state_folder(config)
    if config.state_dir is None:
        home = home_of(config.name)
        private_directory(home.parent)
        try:
            with one_at_a_time(home):
                bring_home(config, home)
        except OSError as error:
            raise ExternalError(
                f"{home}: the state of {config.name} cannot be brought here: {error.strerror or error}",
                hint=f"df -h {home.parent}; ls -ld {home.parent}",
            ) from error
        folder = home
    private_directory(folder)


def bring_home(config: DeployConfig, home: Path) -> None:
    if has_record(arrived_at(home)):
        take_place(home)
    old = linked_place(home)
    if old is None and has_record(home):
        finish(config, home)
        return
    if old is None and (old := earlier_place(config)) is None:
        return
    if old.stat().st_uid != os.geteuid():
        raise InputError(f"{old}: the state of {config.name} is user {owner_of(old)}'s", hint=as_owner(old, config))
    with at_rest(old) as resting:
        if resting:
            old.chmod(0o700)
            move_directory(old, arrived_at(home))
            take_place(home)
            tell(f"the state of {config.name} was moved from {old} to {home}")
        else:
            if not home.is_symlink():
                make_room(home)
                home.symlink_to(old)
            tell(
                f"the state of {config.name} stays in {old}, where servers or an agent use it, "
                f"until `tunegate stop {config.name}`; the next command then moves it to {home}"
            )


def linked_place(home: Path) -> Path | None:
    """Where a command before this one left the state, for it was in use. A link of the operator's own is no such one;
    one to a checkout that is gone is taken away."""
    if not home.is_symlink():
        return None
    target = home.parent / os.readlink(home)
    if target.parts[-3:-1] != EARLIER.parts:
        return None
    if not has_record(target):
        home.unlink()
        tell(f"{home}: a link to {target}, which is gone, was removed")
        return None
    return target


def take_place(home: Path) -> None:
    """A folder cannot be renamed over a link, so it arrives beside it first: between the two steps both are to be
    found."""
    make_room(home)
    arrived_at(home).rename(home)
    sync(home.parent)


def make_room(home: Path) -> None:
    """For what has no record, and so never held an environment's state: it is kept beside."""
    if home.is_symlink():
        home.unlink()
    elif home.exists():
        beside = home.with_name(f".{home.name}.without-record")
        shutil.rmtree(beside, ignore_errors=True)
        home.rename(beside)


def finish(config: DeployConfig, home: Path) -> None:
    """What a kill left of the old place after its copy was whole. Another record there is not this one's: it stays."""
    for name in dict.fromkeys((config.name, SHARED)):
        old = (EARLIER / name).absolute()
        if not has_record(old) or old.stat().st_uid != os.geteuid():
            continue
        with at_rest(old) as resting:
            if resting and is_beginning(old / RECORD, home / RECORD):
                shutil.rmtree(old)
                tell(f"the state of {config.name} was moved from {old} to {home}")
        if name == config.name and not resting:
            tell(
                f"warning: {old} holds another record of {config.name}, and processes that use it; it is not read. "
                f"To end them: `state_dir: {EARLIER / name}` in the YAML, `tunegate stop {config.name}`"
            )


def is_beginning(record: Path, other: Path) -> bool:
    found = record.read_bytes()
    with other.open("rb") as stream:
        return bool(found) and stream.read(len(found)) == found


@contextmanager
def at_rest(folder: Path) -> Iterator[bool]:
    """Whether nobody works there: no holder of the environment, no router, no process that has a file of it open.
    Nobody begins to while the block lasts."""
    with (folder / "lock").open("a") as lock:  # as serve/record/environment.py holds it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield not answers(folder / "router/admin.sock") and not users_of(folder)


@contextmanager
def one_at_a_time(home: Path) -> Iterator[None]:
    with home.with_name(f".{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tell(line: str) -> None:
    print(line, file=sys.stderr)
