"""Small JSON files in the user's cache folder: what this machine found out once, and may find out again at any time.

Never trusted beyond this user: a file that another could have written is as good as none. Never needed: where the
folder cannot be used, nothing is known and nothing is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from infra.files.atomic import private_directory, write_private

Content = dict[str, Any]


def cache_file(name: str) -> Path | None:
    """$TUNEGATE_CACHE_HOME/NAME, $XDG_CACHE_HOME/tunegate/NAME or ~/.cache/tunegate/NAME, the first of them that is an
    absolute path, as the XDG base directory specification has it; None for a user without a home. Makes nothing."""
    for variable, below in (("TUNEGATE_CACHE_HOME", ""), ("XDG_CACHE_HOME", "tunegate"), ("HOME", ".cache/tunegate")):
        if os.path.isabs(found := os.environ.get(variable, "")):
            return Path(found) / below / name
    return None


def read_cache(path: Path | None) -> Content:
    """Empty where there is none, or none that only this user can have written."""
    if path is None:
        return {}
    try:
        with open_own(path, os.O_RDONLY) as number, os.fdopen(os.dup(number), encoding="utf8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):  # JSON's and UTF-8's errors are both ValueErrors
        return {}
    return found if isinstance(found, dict) else {}


def change_cache(path: Path | None, change: Callable[[Content], Content]) -> None:
    """`change` gets what is there now, whoever wrote it, and its result takes that one's place whole. One at a time."""
    if path is None:
        return
    with contextlib.suppress(OSError, ExternalError):
        make_folder(path.parent)
        with open_own(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write_private(path, json.dumps(change(read_cache(path)), indent=1) + "\n")


def make_folder(folder: Path) -> None:
    """Raises PermissionError in the home of somebody else (root's own commands under another's HOME), where it would be
    in its owner's way."""
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    if nearest.stat().st_uid != os.geteuid():
        raise PermissionError(f"{nearest} is another user's")
    private_directory(folder)


@contextmanager
def open_own(path: Path, flags: int) -> Iterator[int]:
    """Raises PermissionError for a file that is not this user's alone, or lies where others may put files in its
    place."""
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found, folder = os.fstat(number), path.parent.stat()
        is_own = found.st_uid == folder.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode)
        if not is_own or found.st_mode & 0o077 or folder.st_mode & 0o022:
            raise PermissionError(f"{path} is not this user's alone")
        yield number
    finally:
        os.close(number)
