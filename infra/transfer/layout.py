"""How a release lies outside of DVC, wherever that is: sha256-HEX/release/…, and sha256-HEX/model.sig beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from configs.release import MANIFEST

RELEASE = "release"
MANIFEST_PATH = f"{RELEASE}/{MANIFEST}"
BLOCK = 8 * 2**20


class Place(Protocol):
    """Where one release lies, or will; its files by their path: release/config.json."""

    url: str

    def blocks(self, path: str) -> Iterator[bytes]:
        """Raises InputError where it has no such file, ExternalError where it does not answer."""
        ...

    def put(self, folder: Path, paths: list[str]) -> str:
        """`folder`: with release/ in it. Where it lies then, in one word."""
        ...


def folder_name(digest: str) -> str:
    """sha256-HEX: a name for a folder, and for a tag."""
    return digest.replace(":", "-")


def sha256_digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
