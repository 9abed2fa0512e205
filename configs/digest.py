"""Digests: of a file's bytes, and of values as canonical JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(paths: Sequence[Path], hash_file: Callable[[Path], str] = sha256_of) -> list[str]:
    """Hex, in the order of `paths`: by a thread for each core, the largest first. hashlib works without Python's lock,
    and holds one block of a file at a time."""
    largest_first = sorted(range(len(paths)), key=lambda index: -paths[index].stat().st_size)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as threads:
        found = dict(zip(largest_first, threads.map(lambda index: hash_file(paths[index]), largest_first), strict=True))
    return [found[index] for index in range(len(paths))]


def key_of(*parts: Any) -> str:
    """Hex sha256 over canonical JSON: what a stage's work depends on, in one word."""
    return hashlib.sha256(
        json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    ).hexdigest()
