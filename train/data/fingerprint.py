"""Fingerprints of rows: their order does not count, every character does."""

from __future__ import annotations

import hashlib
import json

from train.sources.source import Row

HASH_BYTES = 32


def hash_row(row: Row) -> bytes:
    """sha256 of the canonical JSON: every character counts."""
    return hashlib.sha256(json.dumps(row, sort_keys=True, ensure_ascii=False).encode()).digest()


def fingerprint_of(hashes: list[bytes]) -> str:
    """sha256 over the sorted hashes of rows: their order does not count."""
    import numpy

    rows = numpy.frombuffer(b"".join(hashes), dtype=">u8").reshape(-1, 4)
    ordered = rows[numpy.lexsort(rows.T[::-1])]
    return "sha256:" + hashlib.sha256(ordered.tobytes()).hexdigest()


def fingerprint(rows: list[Row]) -> str:
    return fingerprint_of([hash_row(row) for row in rows])


def fingerprint_of_splits(marks: dict[str, str]) -> str:
    """Of all rows and the split that each is in."""
    return "sha256:" + hashlib.sha256("\n".join(f"{name} {mark}" for name, mark in marks.items()).encode()).hexdigest()
