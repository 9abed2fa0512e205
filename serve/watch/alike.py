"""Two windows of traffic: how alike what was asked is, and what the old release would have shown had it been asked what
the new one was. Pure.

Direct standardisation: within strata of like requests both are compared, and the old release's strata are weighted by
how often each was asked of the new one. What the old one was never asked is compared with nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from configs.environment.watch import Watch
from infra.vllm.strata import COLUMNS, Strata

Dimension = Literal["body_bytes", "in_flight", "max_tokens", "streamed"]
# As the names of strata have them.
DIMENSIONS: tuple[Dimension, ...] = ("body_bytes", "in_flight", "max_tokens", "streamed")
LIKE: tuple[Dimension, ...] = ("body_bytes", "streamed")
LOADED: tuple[Dimension, ...] = (*LIKE, "in_flight")
BOUNDED: tuple[Dimension, ...] = (*LIKE, "max_tokens")  # what an answer's length depends on
LEAST_IN_STRATUM = 10  # observations of the old release: fewer say little of their variance
AS_MANY = 1.25  # arrivals, times those of the other window, that still count as as many
Load = Literal["as loaded", "busier", "quieter"]


@dataclass(frozen=True)
class Likeness:
    """`why_not`: in words, where the two were asked for different things. Else times and errors are compared within
    strata of `by`, `load` says which of the two windows was busier, and `words` both."""

    by: tuple[Dimension, ...]
    load: Load
    words: str
    why_not: str | None = None


@dataclass(frozen=True)
class Sample:
    """A mean and its variance, of `n` observations: of what is standardised of as many as would be as uncertain."""

    mean: float
    variance: float
    n: float


@dataclass(frozen=True)
class Standardised:
    """`share` of the new release's observations have their like among the old one's; both samples are of these."""

    share: float
    new: Sample
    old: Sample


def likeness(old: Strata, new: Strata, settings: Watch) -> Likeness:
    """Where requests in flight differ, arrivals say whose doing that is: a release that is slow has more of them in
    flight when no more arrive, and that must not excuse it."""
    share = overlap(old, new, LOADED)
    if share >= settings.comparable_share:
        return Likeness(LOADED, "as loaded", f"{share:.0%} of its requests have their like in the old release's window")
    share = overlap(old, new, LIKE)
    if share < settings.comparable_share:
        return Likeness(LIKE, "as loaded", "", why_not=difference(old, new, share))
    in_flight = [mean(one, "in_flight") for one in (new, old)]
    ratios = [mean(new, name) / mean(old, name) for name in ("in_second", "in_minute")]
    words = f"{in_flight[0]:.1f} requests in flight against {in_flight[1]:.1f}"
    if max(ratios) > AS_MANY and in_flight[0] > in_flight[1]:
        return Likeness(LIKE, "busier", f"{words}, and {max(ratios):.1f} times as many arrive")
    if min(ratios) < 1 / AS_MANY and in_flight[0] < in_flight[1]:
        return Likeness(LIKE, "quieter", f"{words}, and {min(ratios):.2f} times as many arrive")
    return Likeness(LIKE, "as loaded", f"{words}, though as many arrive: that is its own doing")


def difference(old: Strata, new: Strata, share: float) -> str:
    """What differs most."""
    longer = max(1.0, mean(new, "body_bytes")) / max(1.0, mean(old, "body_bytes"))
    streamed = [sum(row[0] for name, row in one.items() if name.endswith("1")) / requests(one) for one in (new, old)]
    compared = f"only {share:.0%} of its requests have their like in the old release's window"
    if max(longer, 1 / longer) > AS_MANY:
        times = f"{longer:.1f} times as long as" if longer > 1 else f"{longer:.2g} times as long as"
        sizes = f"{mean(new, 'body_bytes'):,.0f} bytes a request against {mean(old, 'body_bytes'):,.0f}"
        return f"prompts are {times} in the old release's window ({sizes}): {compared}"
    if abs(streamed[0] - streamed[1]) > 0.2:
        return f"{streamed[0]:.0%} of the answers are streamed against {streamed[1]:.0%}: {compared}"
    return compared


def requests(strata: Strata) -> int:
    return round(sum(row[0] for row in strata.values()))


def mean(strata: Strata, column: str) -> float:
    """A request."""
    place = COLUMNS.index(column)
    return sum(row[place] for row in strata.values()) / requests(strata)


def grouped(strata: Strata, by: tuple[Dimension, ...]) -> Strata:
    places = [DIMENSIONS.index(name) for name in by]
    found: Strata = {}
    for name, row in strata.items():
        parts = name.split()
        group = " ".join(parts[place] for place in places)
        found[group] = [a + b for a, b in zip(found.get(group, [0.0] * len(row)), row, strict=True)]
    return found


def overlap(old: Strata, new: Strata, by: tuple[Dimension, ...]) -> float:
    """Share of the new release's requests."""
    theirs = grouped(old, by)
    alike = sum(
        row[0] for name, row in grouped(new, by).items() if name in theirs and theirs[name][0] >= LEAST_IN_STRATUM
    )
    return alike / requests(new)


def weights(old: Strata, new: Strata, column: int) -> tuple[dict[str, float], float]:
    """Of each stratum that both have, how much of the new release's observations in `column` lies there; and the share
    of all of them that lies in any."""
    counts = {name: row[column] for name, row in new.items() if row[column]}
    both = {name: n for name, n in counts.items() if name in old and old[name][column] >= LEAST_IN_STRATUM}
    total = sum(both.values())
    return {name: n / total for name, n in both.items()}, total / sum(counts.values()) if counts else 0.0


def standardise_means(old: Strata, new: Strata, by: tuple[Dimension, ...], figure: str) -> Standardised | None:
    """None where no stratum has observations of both. The old release's variance is that of its weighted mean, with the
    degrees of freedom of Satterthwaite (1946); the new one's holds what its strata differ by too, and so is never too
    small."""
    n, total, squares = (COLUMNS.index(name) for name in (f"{figure}_n", figure, f"{figure}_squares"))
    old, new = grouped(old, by), grouped(new, by)
    weight, share = weights(old, new, n)
    if not weight:
        return None
    mine = sample(*(sum(new[name][column] for name in weight) for column in (n, total, squares)))
    theirs = {name: sample(old[name][n], old[name][total], old[name][squares]) for name in weight}
    parts = {name: weight[name] ** 2 * one.variance / one.n for name, one in theirs.items()}
    error = sum(parts.values())
    freedom = sum(one.n for one in theirs.values()) - 1
    if error:
        freedom = error**2 / sum(part**2 / (theirs[name].n - 1) for name, part in parts.items())
    centre = sum(weight[name] * one.mean for name, one in theirs.items())
    return Standardised(share, mine, Sample(centre, error * (freedom + 1), freedom + 1))


def sample(n: float, total: float, squares: float) -> Sample:
    centre = total / n
    return Sample(centre, max(0.0, squares - n * centre**2) / max(1.0, n - 1), n)


def standardise_shares(
    old: Strata, new: Strata, by: tuple[Dimension, ...], column: str, of: str
) -> Standardised | None:
    """A share is a mean; its variance is not used. The old release's `n`: as if all of its observations weighed as much
    as its heaviest one, the worst case (the tail of Fay and Feuer, 1997)."""
    count, n = COLUMNS.index(column), COLUMNS.index(of)
    old, new = grouped(old, by), grouped(new, by)
    weight, share = weights(old, new, n)
    if not weight:
        return None
    total = sum(new[name][n] for name in weight)
    mine = sum(new[name][count] for name in weight) / total
    theirs = sum(one * old[name][count] / old[name][n] for name, one in weight.items())
    least = min(old[name][n] / one for name, one in weight.items())
    return Standardised(share, Sample(mine, math.nan, total), Sample(theirs, math.nan, least))
