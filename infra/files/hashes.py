"""sha256 of files that are large and seldom change, hashed once: again only where the file's size, times or inode are
others than when it was hashed.

Kept in build/hashed.json, which any number of processes may read and add to at once. It is for inputs on this machine
(base weights, files of rows); a release's bytes are always hashed anew before they are loaded
(configs/release.py:verify_release).
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from configs.digest import sha256_of
from infra.files.atomic import read_json, write_json

HASHED = Path("build/hashed.json")
SETTLED_SECONDS = 0.05  # younger: a second write could leave the same time (git's "racily clean")
State = list[object]


class FileHashes:
    """By device and inode, so that a file and its hard link are hashed once."""

    def __init__(self, path: Path = HASHED) -> None:
        self.path = path
        self.known: dict[str, State] = read_json(path) or {}
        self.fresh: dict[str, State] = {}

    def sha256_of(self, path: Path) -> str:
        """Hex. Raises OSError where the file cannot be read."""
        state, key = path.stat(), key_of_file(path.stat())
        found = self.fresh.get(key) or self.known.get(key)
        if found and found[:3] == times(state):
            return str(found[3])
        digest = sha256_of(path)
        after = path.stat()
        if times(after) == times(state) and time.time() - after.st_mtime > SETTLED_SECONDS:
            self.fresh[key] = [*times(state), digest, str(path.absolute())]
        return digest

    def link(self, source: Path, target: Path) -> None:
        """A hard link; the hash that is known stays known, though a link moves the inode's change time. Raises OSError
        where the file systems differ or the owner may not."""
        before = source.stat()
        found = self.fresh.get(key_of_file(before)) or self.known.get(key_of_file(before))
        os.link(source.resolve(), target)
        after = target.stat()
        if found and found[:3] == times(before) and times(after)[:2] == times(before)[:2]:
            self.fresh[key_of_file(after)] = [*times(after), *found[3:]]

    def keep(self) -> None:
        """Adds what was hashed to the file, beside what others added; files that are gone are forgotten."""
        if not self.fresh:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = (read_json(self.path) or {}) | self.fresh
            write_json(self.path, {key: state for key, state in found.items() if is_there(key, state)})
        self.known, self.fresh = self.known | self.fresh, {}


def times(state: os.stat_result) -> State:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def key_of_file(state: os.stat_result) -> str:
    return f"{state.st_dev}:{state.st_ino}"


def is_there(key: str, state: State) -> bool:
    """An entry of an older form, or of a file that is gone or another now, is not."""
    try:
        return len(state) == 5 and key_of_file(Path(str(state[4])).stat()) == key
    except OSError:
        return False
