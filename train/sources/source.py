"""Rows with what the data card says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from configs.digest import key_of
from train.sources.files import Batch


@dataclass(frozen=True)
class Source:
    """`batches` reads anew at each call; `identity` changes when the rows do."""

    name: str
    licence: str
    batches: Callable[[], Iterator[Batch]]
    identity: Callable[[], str]
    left_out: dict[str, int] = field(default_factory=dict)


def packaged(name: str, licence: str, batches: list[Batch], left_out: dict[str, int] | None = None) -> Source:
    """A set small enough to be held."""
    return Source(name, licence, lambda: iter(batches), lambda: key_of(name, [[batch.file, batch.rows] for batch in batches]), left_out or {})
