"""Is the new release's traffic worse than the old one's? One window's comparison; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.environment.watch import Watch
from infra.vllm.counters import Counted, Histogram
from serve.record.environment import Compare

# Answers that did not go through the router (probes, load tests, shadows): with more of them a server's own figures say
# little about its users.
MOST_DIRECT = 0.2


FIGURES = 7  # error rate, first token, per token, empty, truncated, longer, shorter: each may alarm


@dataclass(frozen=True)
class FigureCheck:
    """One figure of a window against the baseline. `fine` is: not shown to be worse by more than the limit."""

    figure: str
    outcome: Literal["fine", "breach", "inconclusive"]
    sentence: str


def compare_window(
    baseline: Counted, window: Counted, settings: Watch, compare: Compare, looks: int = 1
) -> list[FigureCheck]:
    """Pure. A breach is an interval that lies wholly beyond its limit; with fewer than minimum_requests on either side
    nothing counts as shown.

    `looks`: how often the window will be compared; Bonferroni over looks and figures keeps the chance of any false
    breach below false_alarm.
    """
    confidence = 1 - 2 * settings.false_alarm / (FIGURES * max(1, looks))
    comparison = WindowComparison(settings, compare, confidence)
    found = [
        comparison.share(
            "error rate",
            (window.failed, window.requests),
            (baseline.failed, baseline.requests),
            settings.error_rate_increase,
        )
    ]
    for side, one in (("new", window), ("old", baseline)):
        direct = (one.answers or 0) - one.requests
        if direct > MOST_DIRECT * (one.answers or 0):
            words = f"answers are inconclusive: {direct} of the {side} release's {one.answers} did not go through"
            words += " the router (probes, load tests): only the error rate is compared"
            return [*found, FigureCheck("answers", "inconclusive", words)]
    found += comparison.times("time to first token", window.first, baseline.first, settings.time_to_first_token_ratio)
    found += comparison.times("time per output token", window.per_token, baseline.per_token, settings.inter_token_ratio)
    if window.answers is None or baseline.answers is None:
        found.append(
            FigureCheck("answers", "inconclusive", "vLLM's counters were not read: only the error rate is compared")
        )
    if window.lengths is None or baseline.lengths is None:
        return found
    lengths = window.lengths, baseline.lengths
    empty = [(one.at_most(1), one.n) for one in lengths]
    found.append(comparison.share("share of empty answers", empty[0], empty[1], settings.empty_increase))
    cut = [(one.truncated, one.answers or 0) for one in (window, baseline)]
    found.append(comparison.share("share of truncated answers", cut[0], cut[1], settings.truncated_increase))
    return [
        *found,
        *comparison.times("answer length", *lengths, settings.length_ratio),
        *comparison.times("answer length", *lengths[::-1], settings.length_ratio, "less"),
    ]


@dataclass(frozen=True)
class WindowComparison:
    """The settings by which the figures of one window are compared."""

    settings: Watch
    compare: Compare
    confidence: float

    def too_few(self, figure: str, n: int, other_n: int) -> FigureCheck | None:
        least = self.settings.minimum_requests
        found = f"{n} observations, {other_n} of the old release"
        words = f"{figure} is inconclusive: {found}, at least {least} of each are needed"
        return FigureCheck(figure, "inconclusive", words) if min(n, other_n) < least else None

    def share(self, figure: str, mine: tuple[int, int], theirs: tuple[int, int], limit: float) -> FigureCheck:
        few = self.too_few(figure, mine[1], theirs[1])
        if few:
            return few
        count, other_count = min(mine), min(theirs)  # a request may fail twice: refused, then cut
        n, other_n = mine[1], theirs[1]
        low, _ = self.compare.shares(count, n, other_count, other_n, self.confidence)
        words = f"{figure} {count / n:.1%} of {n} against {other_count / other_n:.1%} of {other_n}"
        words += f", at least {low:+.1%} more (limit {limit:+.1%})"
        return FigureCheck(figure, "breach" if low > limit else "fine", words)

    def times(
        self, figure: str, mine: Histogram | None, theirs: Histogram | None, ratio: float, word: str = "more"
    ) -> list[FigureCheck]:
        """`less`: the sides are swapped, the sentence still begins with the new release's."""
        if mine is None or theirs is None:
            return []
        few = self.too_few(figure, *((mine.n, theirs.n) if word == "more" else (theirs.n, mine.n)))
        if few:
            return [few]
        means = mine.total / mine.n, theirs.total / theirs.n
        low, _ = self.compare.means(
            means[0], variance(mine), mine.n, means[1], variance(theirs), theirs.n, ratio, self.confidence
        )
        new, old = means if word == "more" else means[::-1]
        shown = "shown" if low > 0 else "not shown"
        words = f"mean {figure} {new:.4g} against {old:.4g}, {shown} to be over {ratio:g} times {word}"
        return [FigureCheck(figure, "breach" if low > 0 else "fine", words)]


def variance(found: Histogram) -> float:
    """Never smaller than the true sample variance, so that no interval made of it is too narrow. Wants two
    observations.

    In a bucket from `low` to `high` a square is at most the chord's (low + high) x - low * high, so the squares
    together are most when what the sum leaves over the lower edges lies in the highest buckets. Above the last edge a
    single observation may hold all of it.
    """
    lows = [0.0, *found.edges]
    spare = max(0.0, found.total - sum(low * count for low, count in zip(lows, found.counts, strict=True)))
    squares = 0.0
    left = spare
    for low, count, high in reversed(list(zip(lows, found.counts, [*found.edges, lows[-1] + spare], strict=True))):
        taken = min(left, count * (high - low))
        left -= taken
        squares += (low + high) * (low * count + taken) - low * high * count
    return max(0.0, squares - found.total**2 / found.n) / (found.n - 1)
