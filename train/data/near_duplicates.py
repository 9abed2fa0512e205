"""Texts that are nearly the same: MinHash (Broder 1997) with locality-sensitive hashing by datasketch, each candidate
then compared exactly.

All held-out rows (validation, test) are indexed and every train row is compared with them; within the train rows a
seeded sample is indexed. So memory is bounded by the held-out rows and the sample, whatever the number of train rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = re.compile(r"\w+")
PERMUTATIONS = 64
FALSE_ALARMS_WEIGH = (
    0.1  # candidates are compared exactly, so a missed pair weighs nine times one that is looked at for nothing
)


class Pair(NamedTuple):
    """Two rows whose questions are nearly the same."""

    kind: str
    row: int
    other: int
    likeness: float


def shingles(text: str) -> frozenset[int]:
    """Hashes (32 bits) of the words and pairs of words: case, spaces and punctuation do not count, but where there is
    nothing else."""
    words = [word.encode() for word in WORD.findall(text.lower())] or [text.encode()]
    return frozenset(map(crc32, [*words, *map(b" ".join, pairwise(words))]))


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


class Index:
    """Texts that others are compared with."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self.table = MinHashLSH(
            threshold=threshold, num_perm=PERMUTATIONS, weights=(FALSE_ALARMS_WEIGH, 1 - FALSE_ALARMS_WEIGH)
        )
        self.blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self.texts: dict[int, NDArray[Any]] = {}
        self.known: set[int] = set()

    def sketch(self, found: frozenset[int]) -> Any:
        sketch = self.blank.copy()
        sketch.update_batch(list(found))
        return sketch

    def add(self, row: int, found: frozenset[int]) -> None:
        import numpy

        self.table.insert(row, self.sketch(found), check_duplication=False)
        self.texts[row] = numpy.fromiter(found, dtype="uint32")
        self.known |= found

    def near(self, found: frozenset[int]) -> list[tuple[int, float]]:
        """Rows of the index that are near enough, and how near.

        A text of which less than the threshold's share is known at all cannot be near any: most are done with after
        this one look.
        """
        if len(found & self.known) < self.threshold * len(found):
            return []
        likenesses = (
            (row, jaccard(found, frozenset(self.texts[row].tolist()))) for row in self.table.query(self.sketch(found))
        )
        return [(row, likeness) for row, likeness in likenesses if likeness >= self.threshold]


def sample_rows(order: NDArray[Any], split: NDArray[Any], size: int) -> set[int]:
    """The first `size` train rows as drawn: a sample that the seed decides."""
    return set(order[split[order] == 0][:size].tolist())


def find_near(
    texts: Iterable[tuple[int, str]], split: NDArray[Any], sample: set[int], threshold: float
) -> Iterator[Pair]:
    """`texts`: the test rows, then the validation rows, then the train rows, each with its index; it is the later one
    of a pair that may go.

    All held-out rows are indexed, and of the train rows those in `sample`. At most one pair a row, leakage before
    near_duplicate.
    """
    index = Index(threshold)
    for row, text in texts:
        found = shingles(text)
        near = [
            Pair("near_duplicate" if split[row] == split[other] else "leakage", row, other, likeness)
            for other, likeness in index.near(found)
        ]
        if near:
            yield min(near, key=lambda pair: (pair.kind, -pair.likeness, pair.other))
        if split[row] > 0 or (row in sample and not near):
            index.add(row, found)
