"""Rows in figures, small enough to travel with a release, and new rows held against them.

How large a difference is: Cramér's V, Kolmogorov and Smirnov's D, the Jensen-Shannon distance (each from 0 to 1), with
Cohen's h for the single shares. How large it would be by chance: the same figure when the rows of both sides are dealt
anew at random (Fisher's permutation test; as each row counts once, the counts of a deal are multivariate
hypergeometric, so the null is exact and no row of the old side is needed). Thresholds that know nothing of the number
of rows (PSI's 0.1 and 0.25) would call noise a shift in small sets and miss one in large.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from zlib import crc32

from configs.data_card import NumberBins, RowsSummary
from train.data.near_duplicates import words_in
from train.rows.shape import texts_of
from train.sources.source import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUCKETS = 512  # of words, by hash
BINS = 32  # of numbers, equally full
MOST_NAMES = 200  # labels and sources that a summary names
OTHERS = "(others)"
DEALS, SEED, QUANTILE = 500, 17, 0.95
TOLD = 3  # labels, sources or words that moved most
Effect = Callable[[Any, Any], Any]


class Difference(TypedDict):
    """One figure of two sets of rows: `value` of `effect`, what it reaches by chance (95th percentile of the null), and
    what moved most."""

    figure: str
    effect: str
    value: float
    by_chance: float
    more_than_chance: bool
    moved: list[str]


class RowFigures:
    """Collected row by row: 12 bytes a row, and what labels and words there are."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.words, self.values = array("I"), array("d")
        self.drawn = [0] * BUCKETS

    def add(self, row: Row) -> str:
        """The word that was drawn: one of a row, so that rows, which are drawn at random, are what is counted."""
        words = words_in("\n".join(texts_of(row)))
        self.words.append(len(words))
        if "value" in row:
            self.values.append(row["value"])
        if (label := label_of(row)) is not None:
            self.labels[label] += 1
        word = words[crc32(str(row["id"]).encode()) % len(words)]
        self.drawn[bucket_of(word)] += 1
        return word.decode()

    def summary(self, sources: Mapping[str, int]) -> RowsSummary:
        """`sources`: rows by where they were read."""
        return {
            "rows": len(self.words),
            "labels": commonest(self.labels),
            "sources": commonest(sources),
            "words": bin_numbers(self.words),
            "values": bin_numbers(self.values),
            "vocabulary": self.drawn,
        }


def bucket_of(word: bytes) -> int:
    return crc32(word) % BUCKETS


def label_of(row: Row) -> str | None:
    """One category a row: its label, its labels together, or the kinds of entities that it names."""
    if "label" in row:
        return str(row["label"])
    found = row.get("labels")
    if "tags" in row:
        found = {tag.split("-", 1)[-1] for tag in row["tags"] if tag != "O"}
    return None if found is None else " + ".join(sorted(found)) or "(none)"


def commonest(counts: Mapping[str, int]) -> dict[str, int]:
    """The MOST_NAMES commonest by name, the rest together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MOST_NAMES:])
    return dict(ordered[:MOST_NAMES]) | ({OTHERS: rest} if rest else {})


def bin_numbers(numbers: Any, upper: list[float] | None = None) -> NumberBins:
    """In bins that are as full as each other, or in those given."""
    import numpy

    found = numpy.asarray(numbers, dtype="float64")
    if upper is None:
        cuts = numpy.linspace(0, 1, BINS + 1)[1:-1]
        upper = numpy.unique(numpy.quantile(found, cuts, method="lower")).tolist() if len(found) else []
    counts = numpy.bincount(numpy.searchsorted(upper, found, side="left"), minlength=len(upper) + 1)
    return {"upper": upper, "counts": counts.tolist()}


def cramers_v(old: Any, new: Any) -> Any:
    """Of counts over categories (last axis): the root of chi-square over the number of rows (Cramér 1946)."""
    import numpy

    both = old + new
    total = both.sum(-1, keepdims=True)
    wanted = [both * (side.sum(-1, keepdims=True) / total) for side in (old, new)]
    parts = [
        numpy.divide((side - expected) ** 2, expected, where=expected > 0, out=0 * expected).sum(-1)
        for side, expected in zip((old, new), wanted, strict=True)
    ]
    return numpy.sqrt(sum(parts) / total[..., 0])


def largest_distance(old: Any, new: Any) -> Any:
    """Kolmogorov and Smirnov's D: of the two cumulated shares."""
    return abs(shares(old).cumsum(-1) - shares(new).cumsum(-1)).max(-1)


def jensen_shannon(old: Any, new: Any) -> Any:
    """The distance (Endres and Schindelin 2003): the root of the divergence in bits."""
    import numpy

    one, other = shares(old), shares(new)
    middle = (one + other) / 2
    ratios = [numpy.divide(side, middle, where=side > 0, out=numpy.ones_like(middle)) for side in (one, other)]
    bits = [(side * numpy.log2(ratio)).sum(-1) for side, ratio in zip((one, other), ratios, strict=True)]
    return numpy.sqrt(numpy.maximum(sum(bits) / 2, 0))


def shares(counts: Any) -> Any:
    return counts / counts.sum(-1, keepdims=True)


def by_chance(old: NDArray[Any], new: NDArray[Any], effect: Effect) -> float:
    """What the effect reaches in one of twenty deals of all rows to two sides of these sizes."""
    import numpy

    both = old + new
    generator = numpy.random.default_rng(SEED)
    dealt = generator.multivariate_hypergeometric(both, int(new.sum()), size=DEALS, method="marginals")
    return float(numpy.quantile(effect(both - dealt, dealt), QUANTILE))


def compare(
    old: RowsSummary, new: RowFigures, sources: Mapping[str, int], names: Mapping[int, str]
) -> list[Difference]:
    """Figure by figure, those that both sides have. `sources`, `names`: of the new rows, how many each source has, and
    the commonest drawn word of each bucket."""
    numbers = {"words of a row": (old["words"], new.words), "value": (old["values"], new.values)}
    found = [
        compare_shares("labels", old["labels"], new.labels),
        compare_shares("sources", old["sources"], sources),
        *(compare_numbers(figure, bins, values) for figure, (bins, values) in numbers.items()),
        compare_words(old["vocabulary"], new.drawn, names),
    ]
    return [one for one in found if one is not None]


def compare_shares(figure: str, old: Mapping[str, int], new: Mapping[str, int]) -> Difference | None:
    """Of categories, where both sides have some. What the old side does not name is one of its others, where it has
    such."""
    if not old or not new:
        return None
    names = list(old) if OTHERS in old else [*old, *sorted(new.keys() - old.keys())]
    before, after = [old.get(name, 0) for name in names], [new.get(name, 0) for name in names]
    if OTHERS in old:
        after[names.index(OTHERS)] += sum(new.values()) - sum(after)
    one, other = shares(numbers_of(before)), shares(numbers_of(after))
    changes = cohens_h(one, other)
    moved = [
        f"{names[place]} {one[place]:.1%} → {other[place]:.1%} (h {changes[place]:+.2f})"
        for place in abs(changes).argsort(kind="stable")[::-1][:TOLD].tolist()
        if changes[place]
    ]
    return difference(figure, "Cramér's V", cramers_v, before, after, moved)


def compare_numbers(figure: str, old: NumberBins, values: Any) -> Difference | None:
    """Of numbers in the old side's bins, where both sides have some."""
    if not sum(old["counts"]) or not len(values):
        return None
    after = bin_numbers(values, old["upper"])["counts"]
    moved = [f"median {median(old['upper'], old['counts'])} → {median(old['upper'], after)}"]
    return difference(figure, "Kolmogorov-Smirnov D", largest_distance, old["counts"], after, moved)


def compare_words(old: list[int], new: list[int], names: Mapping[int, str]) -> Difference:
    """Of one word a row, by hash; the words themselves are known of the new rows alone."""
    change = shares(numbers_of(new)) - shares(numbers_of(old))
    order = [place for place in abs(change).argsort(kind="stable")[::-1].tolist() if place in names and change[place]]
    moved = [f"{names[place]} {change[place]:+.1%}" for place in order[:TOLD]]
    return difference("vocabulary", "Jensen-Shannon distance", jensen_shannon, old, new, moved)


def difference(
    figure: str, effect: str, measure: Effect, old: list[int], new: list[int], moved: list[str]
) -> Difference:
    before, after = numbers_of(old), numbers_of(new)
    value, chance = float(measure(before, after)), by_chance(before, after, measure)
    return {
        "figure": figure,
        "effect": effect,
        "value": round(value, 4),
        "by_chance": round(chance, 4),
        "more_than_chance": value > chance,
        "moved": moved,
    }


def cohens_h(one: Any, other: Any) -> Any:
    """Of two shares (Cohen 1988): the difference of their arcsines; 0.2 is small, 0.5 medium, 0.8 large."""
    import numpy

    return 2 * numpy.arcsin(numpy.sqrt(other)) - 2 * numpy.arcsin(numpy.sqrt(one))


def median(upper: list[float], counts: list[int]) -> str:
    """To the bin in which it lies."""
    place = int((numbers_of(counts).cumsum() * 2 >= sum(counts)).argmax())
    return f"{upper[place]:g}" if place < len(upper) else f"above {upper[-1]:g}" if upper else "the same"


def numbers_of(counts: list[int]) -> NDArray[Any]:
    import numpy

    return numpy.array(counts, dtype="int64")


def figures_of(rows: Iterable[Row]) -> tuple[RowFigures, dict[int, str]]:
    """And the commonest drawn word of each bucket."""
    figures, words = RowFigures(), Counter[str]()
    for row in rows:
        words[figures.add(row)] += 1
    names: dict[int, str] = {}
    for word, _ in words.most_common():
        names.setdefault(bucket_of(word.encode()), word)
    return figures, names


def lines_of(release: str, rows: int, found: list[Difference]) -> list[str]:
    """A line a figure."""
    lines = [f"against {release} and its {rows:,} train rows:"]
    for one in found:
        verdict = "more than chance" if one["more_than_chance"] else "no more than chance"
        told = f"; {'; '.join(one['moved'])}" if one["moved"] else ""
        lines.append(
            f"  {one['figure']}: {one['effect']} {one['value']:.3f}, {verdict} (up to {one['by_chance']:.3f}){told}"
        )
    return lines
