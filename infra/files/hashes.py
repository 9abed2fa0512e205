"""sha256 of files that are large and seldom change, hashed once for each version of a file: again as soon as its size,
times or inode are others than when it was hashed.

Kept in the user's cache folder, which any number of processes may read and add to at once. It is for base weights,
files of rows, and releases. What changes no time of the file goes unseen (a broken disk, a write below the file system,
one through a shared map of memory that was open before): `tunegate releases verify` and `fetch` read every byte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from configs.digest import sha256_of
from configs.release import Manifest, verify_release
from infra.files.user_cache import Content, cache_file, change_cache, read_cache

# A file whose times are younger when its reading begins is not known by them: a second write could leave the same ones
# (git's "racily clean"). The coarsest file systems count in steps of 2 s.
SETTLED_SECONDS = 2.0
State = list[object]


class FileHashes:
    """By device and inode, so that a file and its hard link are hashed once. `afresh`: every file is read, whatever is
    known of it. Several threads may ask at once."""

    def __init__(self, path: Path | None = None, *, afresh: bool = False) -> None:
        self.path = path or cache_file("hashed.json")
        self.known: Content = {} if afresh else read_cache(self.path)
        self.fresh: dict[str, State] = {}

    def sha256_of(self, path: Path) -> str:
        """Hex. Raises OSError where the file cannot be read."""
        state = path.stat()
        found = self.found(state)
        if found:
            return str(found[3])
        began = time.time()
        digest = sha256_of(path)
        is_settled = began - max(state.st_mtime, state.st_ctime) > SETTLED_SECONDS
        after = path.stat()
        if is_settled and (key_of_file(after), times(after)) == (key_of_file(state), times(state)):
            self.fresh[key_of_file(after)] = [*times(after), digest, str(path.absolute())]
        return digest

    def found(self, state: os.stat_result) -> State | None:
        """What is known of this very version of a file."""
        found = self.fresh.get(key_of_file(state)) or self.known.get(key_of_file(state))
        return found if is_entry(found) and found[:3] == times(state) else None

    def link(self, source: Path, target: Path) -> None:
        """A hard link; the hash that is known stays known, though a link moves the inode's change time. Raises OSError
        where the file systems differ or the owner may not."""
        before = source.stat()
        found = self.found(before)
        os.link(source.resolve(), target)
        after = target.stat()
        if found and key_of_file(after) == key_of_file(before) and times(after)[:2] == times(before)[:2]:
            self.fresh[key_of_file(after)] = [*times(after), *found[3:]]

    def keep(self) -> None:
        """Adds what was hashed to the file, beside what others added; files that are gone are forgotten."""
        if self.fresh:
            fresh = self.fresh
            change_cache(
                self.path, lambda found: {key: state for key, state in (found | fresh).items() if is_there(key, state)}
            )
            self.known, self.fresh = self.known | fresh, {}


@contextmanager
def remembered(*, afresh: bool = False) -> Iterator[Callable[[Path], str]]:
    """A hash of files for `list_files` and `verify_release`; what it found is kept when the block ends, well or not."""
    hashes = FileHashes(afresh=afresh)
    try:
        yield hashes.sha256_of
    finally:
        hashes.keep()


def verify_known(directory: Path, expected_digest: str | None = None, *, afresh: bool = False) -> Manifest:
    """As `verify_release`; each version of a file is read once on this machine."""
    with remembered(afresh=afresh) as hash_file:
        return verify_release(directory, expected_digest, hash_file)


def times(state: os.stat_result) -> State:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def key_of_file(state: os.stat_result) -> str:
    return f"{state.st_dev}:{state.st_ino}"


def is_entry(state: object) -> TypeGuard[State]:
    """Not one of an older form, nor half of one."""
    return (
        isinstance(state, list)
        and len(state) == 5
        and all(isinstance(one, int) for one in state[:3])
        and isinstance(state[3], str)
        and len(state[3]) == 64
        and isinstance(state[4], str)
    )


def is_there(key: str, state: State) -> bool:
    """An entry of an older form, or of a file that is gone or another now, is not."""
    try:
        return is_entry(state) and key_of_file(Path(str(state[4])).stat()) == key
    except (OSError, ValueError):
        return False
