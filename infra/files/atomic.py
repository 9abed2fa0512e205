"""Whole or absent: a killed stage leaves nothing that a later one could mistake for finished work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import ExternalError


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yields an empty sibling of `target` that takes its place when the block ends well."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    clear_partials(target)
    partial.mkdir(parents=True)
    try:
        yield partial
        retired = target.with_name(f".{target.name}.{os.getpid()}.old.partial")
        if target.exists():
            os.replace(target, retired)
        os.replace(partial, target)
        shutil.rmtree(retired, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_partials(target: Path) -> None:
    """What killed runs left; a directory whose process still lives is another's work."""
    for stale in target.parent.glob(f".{target.name}.*.partial"):
        if not is_running(int(stale.name.removeprefix(f".{target.name}.").split(".")[0])):
            shutil.rmtree(stale, ignore_errors=True)


def is_running(pid: int) -> bool:
    return pid != os.getpid() and Path(f"/proc/{pid}").exists()


def private_directory(path: Path) -> None:
    """Only its owner may enter it, nor any parent that has to be made for it. Raises ExternalError."""
    try:
        for folder in reversed((path, *path.parents)):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ExternalError(
            f"{path}: cannot be made: {error.strerror or error}", hint=f"ls -ld {path.parent}"
        ) from error


@contextmanager
def new_file(target: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yields an empty sibling of `target` that takes its place when the block ends well. `mode` less the umask, as for
    any file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    yield partial
    os.replace(partial, target)


def write_text(path: Path, text: str) -> None:
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf8")


def write_private(path: Path, text: str) -> None:
    """Only the owner may read it."""
    with new_file(path, mode=0o600) as partial:
        partial.write_text(text, encoding="utf8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """None where the file is missing or is not a JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
