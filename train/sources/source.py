"""Rows with what the data card says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from configs.digest import key_of

BATCH_ROWS = 8192  # some megabytes of Python objects, whatever a file's size


@dataclass(frozen=True)
class Source:
    """`batches` reads anew at each call; `identity` changes when the rows do; `owners`: of a mix, the part of each file
    that was read so far."""

    name: str
    licence: str
    batches: Callable[[], Iterator[Batch]]
    identity: Callable[[], str]
    left_out: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)


def packaged(name: str, licence: str, batches: list[Batch], left_out: dict[str, int] | None = None) -> Source:
    """A set small enough to be held."""
    return Source(
        name,
        licence,
        lambda: iter(batches),
        lambda: key_of(name, [[batch.file, batch.rows] for batch in batches]),
        left_out or {},
    )


Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row: its kind (a key of configs.rows.lint.Lint), what was found, what was expected."""

    kind: str
    found: str
    expected: str


@dataclass(frozen=True)
class Batch:
    """Some rows of one file. `part` is the split that the file was given for, or empty."""

    file: str
    part: str
    numbers: list[int]
    rows: list[Row | Fault]
    stem: str


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
