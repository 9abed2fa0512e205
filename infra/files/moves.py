"""Folders and files moved so that a kill at any moment leaves one whole: what is gone here is on disk there."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from pathlib import Path


def move_directory(source: Path, target: Path) -> None:
    """`target` is not there yet. Within a file system by a rename. To another one as a copy, which is on disk before it
    gets its name, and the source goes last: killed before, the same call goes on; killed after, `target` is whole and
    what is left of `source` may go. Sockets are left behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.moving")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, symlinks=True, ignore=special_files)
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        os.rename(partial, target)
        sync(target.parent)
        shutil.rmtree(source)
    sync(target.parent)
    sync(source.parent)


def merge_directory(source: Path, target: Path) -> int:
    """Into one that may be there; files that both have alike are there once. How many differ: those stay. Killed at any
    moment, the same call goes on."""
    if not source.exists():
        return 0
    if not target.exists():
        move_directory(source, target)
        return 0
    differing = 0
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        there = target / path.relative_to(source)
        if not there.exists():
            move_file(path, there)
        elif filecmp.cmp(path, there, shallow=False):
            path.unlink()
        else:
            differing += 1
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if not differing:
        shutil.rmtree(source)
    return differing


def move_file(source: Path, target: Path) -> None:
    """As `move_directory`; it takes the place of a `target` that is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f".{target.name}.moving")
        partial.unlink(missing_ok=True)
        shutil.copy2(source, partial)
        sync(partial)
        os.rename(partial, target)
        sync(target.parent)
        source.unlink()


def special_files(folder: str, names: list[str]) -> list[str]:
    """What a copy cannot hold: sockets and pipes, which whoever listens makes again."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [name for name, mode in modes.items() if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)]


def sync(path: Path) -> None:
    """To the disk: a file's bytes, a folder's names."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
