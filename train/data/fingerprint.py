"""Fingerprints of rows: their order does not count, every character does."""

from __future__ import annotations

import hashlib
import json

from train.sources.source import Row

HASH_BYTES = 32


def hash_row(row: Row) -> bytes:
    """sha256 of the canonical JSON: every character counts."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, ensure_ascii=False).encode()).digest()


def fingerprint_of(hashes: bytearray) -> str:
    """sha256 over the sorted hashes of rows, HASH_BYTES each: their order does not count. They are sorted in place, for
    of millions of rows a copy is hundreds of MB."""
    import numpy

    numpy.frombuffer(hashes, dtype=f"S{HASH_BYTES}").sort()
    return "sha256:" + hashlib.sha256(hashes).hexdigest()


def fingerprint(rows: list[Row]) -> str:
    return fingerprint_of(bytearray(b"".join(map(hash_row, rows))))


def fingerprint_of_splits(marks: dict[str, str]) -> str:
    """Of all rows and the split that each is in."""
    return "sha256:" + hashlib.sha256("\n".join(f"{name} {mark}" for name, mark in marks.items()).encode()).hexdigest()
