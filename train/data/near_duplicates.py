"""Texts that are nearly the same: MinHash (Broder 1997) with locality-sensitive hashing by datasketch, each candidate
then compared exactly.

What many rows share (an instruction, a system turn, a template) tells no row from another, so it does not count: runs
of five words that are in many rows of a sample are left out, as boilerplate is in the shingling of web pages (Broder,
Glassman, Manasse, Zweig 1997, section 5: "common shingles").

All held-out rows (validation, test) are indexed and every train row is compared with them; within the train rows a
seeded sample is indexed. So memory is bounded by the held-out rows and the sample, whatever the number of train rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Chinese and Japanese put no spaces between words: there a character is a word.
IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD, ASCII_WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+"), re.compile(r"\w+", re.ASCII)
PERMUTATIONS = 64
FALSE_ALARMS_WEIGH = (
    0.1  # candidates are compared exactly, so a missed pair weighs nine times one that is looked at for nothing
)
RUN = 5  # words; shorter runs recur in any language (idioms), longer ones miss templates with many gaps
SHARED_SAMPLE = 5_000  # rows among which shared runs are counted
SHARED_SHARE, SHARED_ROWS = 0.005, 10  # a run is shared from this share of them, and from so many rows, on
COUNTED_WORDS = 2_048  # of the beginning and of the end of a sampled row: memory stays bounded whatever its length
NOTHING_SHARED: frozenset[int] = frozenset()


class Pair(NamedTuple):
    """Two rows whose questions are nearly the same."""

    kind: str
    row: int
    other: int
    likeness: float


class Asked(NamedTuple):
    """A row's whole question, and what is asked beside its system's turns; the same text where it has none."""

    whole: str
    beside: str


class Text(NamedTuple):
    """Shingles of a question: of all of it; of what it does not share with many rows; of that beside the system's
    turns. Where nothing is left, what is shared counts."""

    whole: frozenset[int]
    own: frozenset[int]
    beside: frozenset[int]


def words_in(text: str) -> list[bytes]:
    """Case, spaces and punctuation do not count, but where there is nothing else."""
    found = (ASCII_WORD if text.isascii() else WORD).findall(text.lower())
    return [word.encode() for word in found] or [text.encode()]


def shingles(*runs: list[bytes]) -> frozenset[int]:
    """Hashes (32 bits) of the words of each run and of its pairs of words."""
    return frozenset(map(crc32, [part for run in runs for part in (*run, *map(b" ".join, pairwise(run)))]))


def hash_runs(words: list[bytes]) -> list[int]:
    return [crc32(b" ".join(words[start : start + RUN])) for start in range(len(words) - RUN + 1)]


def shared_runs(texts: Iterable[str]) -> frozenset[int]:
    """Hashes of the runs of RUN words that are in many of the texts."""
    import numpy

    found = []
    for text in texts:
        words = words_in(text)
        ends = [words] if len(words) <= 2 * COUNTED_WORDS else [words[:COUNTED_WORDS], words[-COUNTED_WORDS:]]
        found.append(numpy.array(sorted({run for end in ends for run in hash_runs(end)}), dtype="uint32"))
    if len(found) < SHARED_ROWS:
        return NOTHING_SHARED
    runs, counts = numpy.unique(numpy.concatenate(found), return_counts=True)
    return frozenset(runs[counts >= max(SHARED_ROWS, math.ceil(SHARED_SHARE * len(found)))].tolist())


def own_runs(words: list[bytes], shared: frozenset[int]) -> list[list[bytes]]:
    """What is left without the shared runs, neighbours together; all of it where nothing would be."""
    hashes = hash_runs(words) if shared else []
    if shared.isdisjoint(hashes):
        return [words]
    found: list[list[bytes]] = [[]]
    covered = 0  # the place up to which a shared run reaches
    for place, word in enumerate(words):
        if place < len(hashes) and hashes[place] in shared:
            covered = place + RUN
        if place >= covered:
            found[-1].append(word)
        elif found[-1]:
            found.append([])
    return [run for run in found if run] or [words]


def read_text(asked: Asked, shared: frozenset[int]) -> Text:
    words = words_in(asked.whole)
    if not shared and asked.beside is asked.whole:
        only = shingles(words)
        return Text(only, only, only)
    runs = own_runs(words, shared)
    own = shingles(*runs)
    whole = own if runs == [words] else shingles(words)
    beside = own if asked.beside == asked.whole else shingles(*own_runs(words_in(asked.beside), shared))
    return Text(whole, own, beside)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def likeness_of(one: Text, other: Text) -> float:
    """Of the least alike of their three parts. What is left over when shared text goes may be alike by chance ("good",
    "bad" may be the shared words), and one question about two documents is two questions."""
    likeness = jaccard(one.own, other.own)
    if one.whole is not one.own or other.whole is not other.own:
        likeness = min(likeness, jaccard(one.whole, other.whole))
    if one.beside is not one.own or other.beside is not other.own:
        likeness = min(likeness, jaccard(one.beside, other.beside))
    return likeness


class Index:
    """Texts that others are compared with."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self.table = MinHashLSH(
            threshold=threshold, num_perm=PERMUTATIONS, weights=(FALSE_ALARMS_WEIGH, 1 - FALSE_ALARMS_WEIGH)
        )
        self.blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self.texts: dict[int, tuple[NDArray[Any], ...]] = {}
        self.known: set[int] = set()

    def sketch(self, found: frozenset[int]) -> Any:
        sketch = self.blank.copy()
        sketch.update_batch(list(found))
        return sketch

    def add(self, row: int, text: Text) -> None:
        import numpy

        self.table.insert(row, self.sketch(text.own), check_duplication=False)
        parts = text if text.whole is not text.own or text.beside is not text.own else text[:1]
        self.texts[row] = tuple(numpy.fromiter(part, dtype="uint32") for part in parts)
        self.known |= text.own

    def text(self, row: int) -> Text:
        whole, *rest = (frozenset(part.tolist()) for part in self.texts[row])
        own, beside = rest or (whole, whole)
        return Text(whole, own, beside)

    def near(self, text: Text) -> list[tuple[int, float]]:
        """Rows of the index that are near enough, and how near.

        A text of which less than the threshold's share is known at all cannot be near any: most are done with after
        this one look.
        """
        if len(text.own & self.known) < self.threshold * len(text.own):
            return []
        likenesses = ((row, likeness_of(text, self.text(row))) for row in self.table.query(self.sketch(text.own)))
        return [(row, likeness) for row, likeness in likenesses if likeness >= self.threshold]


def sample_rows(order: NDArray[Any], split: NDArray[Any], size: int) -> set[int]:
    """The first `size` train rows as drawn: a sample that the seed decides."""
    return set(order[split[order] == 0][:size].tolist())


def find_near(
    texts: Iterable[tuple[int, Asked]],
    split: NDArray[Any],
    sample: set[int],
    threshold: float,
    shared: frozenset[int] = NOTHING_SHARED,
) -> Iterator[Pair]:
    """`texts`: the test rows, then the validation rows, then the train rows, each with its index; it is the later one
    of a pair that may go. `shared`: runs of words that do not count.

    All held-out rows are indexed, and of the train rows those in `sample`. At most one pair a row, leakage before
    near_duplicate.
    """
    index = Index(threshold)
    for row, asked in texts:
        found = read_text(asked, shared)
        near = [
            Pair("near_duplicate" if split[row] == split[other] else "leakage", row, other, likeness)
            for other, likeness in index.near(found)
        ]
        if near:
            yield min(near, key=lambda pair: (pair.kind, -pair.likeness, pair.other))
        if split[row] > 0 or (row in sample and not near):
            index.add(row, found)
