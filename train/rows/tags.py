"""Which scheme a set's tags are in, told by its first rows; every row is held to it and becomes IOB2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.rows.tags import (
    LETTERS,
    OUTSIDE,
    PLACES,
    Mark,
    Place,
    Scheme,
    TagScheme,
    mark_of,
    marks_in,
    place_of,
    share,
    spans_of,
    written,
)
from train.sources.source import Fault

WINDOW = 10_000  # rows that tell the scheme


@dataclass(frozen=True)
class TagReader:
    """Reads the tags of a row. `said`: data.tags names the scheme; otherwise it was recognised."""

    scheme: Scheme
    place: Place
    said: bool = False

    def read(self, tags: Sequence[str]) -> list[str] | Fault:
        """In IOB2; a Fault at the first word whose tag its scheme would not have there."""
        if self.scheme == "words":
            return list(tags)
        marks = [mark_of(tag, self.place) for tag in tags]
        strange = [tag for tag, mark in zip(tags, marks, strict=True) if mark is None or self.looks_placed(tag)]
        if strange:
            has = "a position" if self.place == "none" else "no position where the others have one"
            return Fault("invalid_tag", f"{strange[0]}, which has {has}", self.expected())
        known = [mark for mark in marks if mark is not None]
        spans = spans_of(known)
        wrong = first_difference(known, self.scheme)
        if wrong is not None:
            should = written(marks_in(spans, len(tags), self.scheme)[wrong], self.place)
            found = f"{tags[wrong]} at word {wrong + 1}, where {self.scheme} has {should}"
            return Fault("invalid_tag", found, self.expected())
        return [written(mark) for mark in marks_in(spans, len(tags), "iob2")]

    def looks_placed(self, tag: str) -> bool:
        """B-PER among bare names is no name, unless data.tags says that they are."""
        return self.place == "none" and not self.said and tag[:2] in ("B-", "I-")

    def expected(self) -> str:
        name = "bare names" if self.scheme == "bare" else f"tags in {self.scheme}"
        return f"{name}, as data.tags says" if self.said else f"{name}, as most of the first rows have (data.tags)"


def first_difference(marks: Sequence[Mark], scheme: Scheme) -> int | None:
    """The first word whose letter is not the one that the scheme writes for the entities that are read; None in a row
    that is right. Bare names have no letters to be wrong."""
    if scheme not in LETTERS:
        return None
    should = marks_in(spans_of(marks), len(marks), scheme)
    return next((index for index, pair in enumerate(zip(marks, should, strict=True)) if pair[0] != pair[1]), None)


def recognise(rows: Iterable[Sequence[str]], said: TagScheme = "auto") -> TagReader:
    """`rows`: the tags of the first rows. The scheme in which most rows are right; of those that are alike (I alone is
    IO, and IOB1 without neighbours) the one that loses nothing. Names without any O are tags of words by themselves,
    such as parts of speech."""
    sentences = list(rows)
    counts = Counter(tag for tags in sentences for tag in tags)
    outside = counts.pop(OUTSIDE, 0)
    if said != "auto":
        bare = said in ("bare", "words")
        return TagReader(said, "none" if bare else max(PLACES, key=lambda place: share(counts, place)), said=True)
    place = place_of(counts) if counts else "before"
    if place == "none":
        return TagReader("bare" if outside else "words", "none")
    right = dict.fromkeys(LETTERS, 0)
    for tags in sentences:
        marks = [mark for tag in tags if (mark := mark_of(tag, place))]
        for scheme in right if len(marks) == len(tags) else ():
            right[scheme] += first_difference(marks, scheme) is None
    del right["io"]  # all of it is IOB1 too, which also knows two neighbours of one type
    return TagReader(max(right, key=right.__getitem__), place)
