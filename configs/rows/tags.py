"""Tags of words: how each scheme writes entities down. One reader for all of them, and IOB2 as the one scheme that goes
on from `prepare`: two readers of one thing would disagree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

Scheme = Literal["iob2", "iob1", "io", "bioes", "bilou", "bmes", "bmewo", "ioe2", "ioe1", "bare", "words"]
TagScheme = Literal["auto"] | Scheme
Place = Literal["before", "after", "alone", "none"]  # where the letter stands: B-PER, PER-B, B, or PER
Way = Place | Literal["words"]  # words: no entities, a tag for each word by itself
Span = tuple[str, int, int]  # type, first word, last word
Mark = tuple[str, str]  # letter and type; OUTSIDE for no entity

OUTSIDE = "O"
NAMELESS = "_"  # the type where tags are letters alone, as in seqeval
# By scheme: the letters of an entity's only, first, middle and last word. IOB1 writes B, and IOE1 writes E, only where
# two entities of a type touch (Tjong Kim Sang and Veenstra 1999, arXiv:cs/9907006; BILOU: Ratinov and Roth 2009).
LETTERS: dict[Scheme, str] = {
    "iob2": "BBII",
    "iob1": "IIII",
    "io": "IIII",
    "bioes": "SBIE",
    "bilou": "UBIL",
    "bmes": "SBME",
    "bmewo": "WBME",
    "ioe2": "EIIE",
    "ioe1": "IIII",
}
GOES_ON, ENDS = frozenset("IMEL"), frozenset("ELSUW")
BEFORE = re.compile(r"([BIESLUMW])[-_](\S+)", re.IGNORECASE)
AFTER = re.compile(r"(\S+)[-_]([BIESLUMW])")
ALONE = re.compile(r"[BIESLUMW]")
PLACES: dict[Place, re.Pattern[str]] = {"before": BEFORE, "after": AFTER, "alone": ALONE}


def place_of(tags: Iterable[str] | Mapping[str, int]) -> Place:
    """Where most of these tags (of a whole set, of a release's labels, or of a sentence) have their letter."""
    counts = Counter(tags)
    counts.pop(OUTSIDE, None)
    if counts and all(ALONE.fullmatch(tag) for tag in counts) and counts.keys() & {"B", "I"}:
        return "alone"
    before, after = share(counts, "before"), share(counts, "after")
    return "none" if max(before, after) <= 0.5 else "before" if before >= after else "after"


def share(counts: Counter[str], place: Place) -> float:
    """Of the tags that have a letter at that place."""
    return sum(count for tag, count in counts.items() if PLACES[place].fullmatch(tag)) / max(counts.total(), 1)


def mark_of(tag: str, place: Place) -> Mark | None:
    """None where the tag has no letter at that place."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if place == "none":
        return "I", tag
    found = PLACES[place].fullmatch(tag)
    if found is None or place == "alone":
        return (tag, NAMELESS) if found else None
    letter, kind = found.groups() if place == "before" else reversed(found.groups())
    return letter.upper(), kind


def spans_of(marks: Iterable[Mark]) -> list[Span]:
    """The entities, by the rule of conlleval (the program of CoNLL-2000 to 2003) for every scheme's letters: what goes
    on (I, M, E, L) without an entity of its type to go on with begins one."""
    spans = list[Span]()
    going = False  # whether the last span may still grow
    for index, (letter, kind) in enumerate(marks):
        if letter == OUTSIDE:
            going = False
            continue
        if going and letter in GOES_ON and spans[-1][0] == kind:
            spans[-1] = kind, spans[-1][1], index
        else:
            spans.append((kind, index, index))
        going = letter not in ENDS
    return spans


def marks_in(spans: Sequence[Span], words: int, scheme: Scheme) -> list[Mark]:
    """How a scheme writes these entities down; the reverse of `spans_of`."""
    marks: list[Mark] = [(OUTSIDE, "")] * words
    only, first, middle, last = list(LETTERS[scheme])
    for number, (kind, start, end) in enumerate(spans):
        letters = [only] if start == end else [first, *[middle] * (end - start - 1), last]
        if scheme == "iob1" and number and spans[number - 1][::2] == (kind, start - 1):
            letters[0] = "B"
        if scheme == "ioe1" and number + 1 < len(spans) and spans[number + 1][:2] == (kind, end + 1):
            letters[-1] = "E"
        marks[start : end + 1] = [(letter, kind) for letter in letters]
    return marks


def written(mark: Mark, place: Place = "before") -> str:
    letter, kind = mark
    if letter == OUTSIDE:
        return OUTSIDE
    return {"before": f"{letter}-{kind}", "after": f"{kind}-{letter}", "alone": letter, "none": kind}[place]


def entities_of(tags: Sequence[str], place: Place | None = None) -> list[Span]:
    """The entities of one sentence in whatever scheme; a tag without a letter is read as a bare name."""
    here = place or place_of(tags)
    return spans_of(mark_of(tag, here) or ("I", tag) for tag in tags)


def way_of(tags: Collection[str]) -> Way:
    """How tags are written, told by all of them; names without any O are tags of words by themselves."""
    place = place_of(tags)
    return "words" if place == "none" and tags and OUTSIDE not in tags else place


def read_spans(tags: Sequence[str], way: Way) -> list[Span]:
    return [(tag, index, index) for index, tag in enumerate(tags)] if way == "words" else entities_of(tags, way)


def to_iob2(tags: Sequence[str], place: Place | None = None) -> list[str]:
    return [written(mark) for mark in marks_in(entities_of(tags, place), len(tags), "iob2")]
