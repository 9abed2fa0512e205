"""Is the new release's traffic worse than the old one's? One window's comparison, and what it decides; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from configs.environment.watch import Watch
from infra.vllm.counters import Counted
from infra.vllm.strata import COLUMNS, Strata
from serve.record.environment import Compare
from serve.record.facts import Outcome
from serve.watch.alike import (
    BOUNDED,
    Likeness,
    Sample,
    Standardised,
    likeness,
    requests,
    standardise_means,
    standardise_shares,
)

FIGURES = 8  # errors, unanswered, first token, per token, empty, truncated, longer, shorter: each may alarm
RARE = 0.1  # what fewer of the old release's requests show holds nothing up


@dataclass(frozen=True)
class FigureCheck:
    """One figure of a window against the baseline. `fine` is: not shown to be worse by more than the limit."""

    figure: str
    outcome: Literal["fine", "breach", "inconclusive"]
    sentence: str


def decide(checks: Sequence[FigureCheck]) -> tuple[Outcome, str]:
    """With the figures that decided. Fails by one breach; without any passes only where no figure is open."""
    for kind, outcome in (("breach", "fail"), ("inconclusive", "inconclusive")):
        found = [one.sentence for one in checks if one.outcome == kind]
        if found:
            return outcome, "; ".join(found)  # type: ignore[return-value]  # as listed
    figures = dict.fromkeys(one.figure for one in checks if one.figure != "traffic")
    return "pass", f"not shown to be worse: {', '.join(figures)}"


def compare_window(
    baseline: Counted, window: Counted, settings: Watch, compare: Compare, looks: int = 1, *, is_share: bool = False
) -> list[FigureCheck]:
    """Pure. A breach is an interval that lies wholly beyond its limit; with fewer than minimum_requests on either side
    nothing counts as shown.

    `looks`: among how many the false_alarm is divided; Bonferroni over looks and figures keeps the chance of any false
    breach below it. `is_share`: the new release gets a small share, so that it is less busy than what serves beside it.
    """
    confidence = 1 - 2 * settings.false_alarm / (FIGURES * max(1, looks))
    old, new = baseline.strata, window.strata
    if old is None or new is None:
        raw = WindowComparison(settings, compare, confidence, Likeness((), "as loaded", ""), {}, {}, is_share)
        side = "old" if old is None else "new"
        words = f"traffic is inconclusive: the {side} release's server does not say what its users asked: only the "
        return [
            *raw.counts("error rate", window, baseline, settings.error_rate_increase),
            FigureCheck("traffic", "inconclusive", f"{words}router's error rate is compared"),
        ]
    if min(requests(old), requests(new)) < settings.minimum_requests:
        found = f"{requests(new)} requests, {requests(old)} of the old release"
        words = f"traffic is inconclusive: {found}, at least {settings.minimum_requests} of each are needed"
        return [FigureCheck("traffic", "inconclusive", words)]
    alike = likeness(old, new, settings)
    if alike.why_not:
        return [FigureCheck("traffic", "inconclusive", f"traffic is inconclusive: {alike.why_not}")]
    asked = WindowComparison(settings, compare, confidence, alike, old, new, is_share)
    return [
        FigureCheck("traffic", "fine", alike.words),
        *asked.share("error rate", "failed", "requests", settings.error_rate_increase),
        *asked.counts("unanswered requests", unanswered(window), unanswered(baseline), settings.error_rate_increase),
        *asked.times("time to first token", "first", settings.time_to_first_token_ratio),
        *asked.times("time per output token", "gap", settings.inter_token_ratio),
        *asked.share("share of empty answers", "empty", "tokens_n", settings.empty_increase),
        *asked.share("share of truncated answers", "truncated", "tokens_n", settings.truncated_increase),
        *asked.times("answer length", "tokens", settings.length_ratio),
        *asked.times("answer length", "tokens", settings.length_ratio, "less"),
    ]


def unanswered(window: Counted) -> Counted:
    """Of the router's failures those that the server did not answer with an error itself: refused, broken off, cut."""
    errors = sum(row[COLUMNS.index("failed")] for row in (window.strata or {}).values())
    return window.model_copy(update={"failed": max(0, window.failed - round(errors))})


@dataclass(frozen=True)
class WindowComparison:
    """The settings by which the figures of one window are compared, and the two windows."""

    settings: Watch
    compare: Compare
    confidence: float
    alike: Likeness
    old: Strata
    new: Strata
    is_share: bool

    def check(self, figure: str, breach: bool, words: str, *, depends_on_load: bool = True) -> FigureCheck:
        """More load makes nothing quicker: what is within its limit under more of it, or beyond it under less, is shown
        all the same."""
        load = self.alike.load if depends_on_load else "as loaded"
        if load == "busier" and breach:
            return FigureCheck(figure, "inconclusive", f"{words}: inconclusive, for it was busier ({self.alike.words})")
        if load == "quieter" and not breach and not self.is_share:
            return FigureCheck(
                figure, "inconclusive", f"{words}: inconclusive, for it was less busy ({self.alike.words})"
            )
        return FigureCheck(figure, "breach" if breach else "fine", words)

    def open(self, figure: str, of: str, found: Standardised | None) -> list[FigureCheck]:
        """Why nothing can be said of a figure; nothing of one that few of the old release's requests show either."""
        place = COLUMNS.index(of)
        if sum(row[place] for row in self.old.values()) < RARE * requests(self.old):
            return []
        least = self.settings.minimum_requests
        n, other_n = (found.new.n, found.old.n) if found else (0.0, 0.0)
        words = f"{n:.0f} observations, {other_n:.0f} of the old release, at least {least} of each are needed"
        if found and min(n, other_n) >= least:
            words = f"only {found.share:.0%} of its observations have their like in the old release's window"
        return [FigureCheck(figure, "inconclusive", f"{figure} is inconclusive: {words}")]

    def is_enough(self, found: Standardised) -> bool:
        least = self.settings.minimum_requests
        return min(found.new.n, found.old.n) >= least and found.share >= self.settings.comparable_share

    def counts(self, figure: str, mine: Counted, theirs: Counted, limit: float) -> list[FigureCheck]:
        """What only the router counts: not by strata."""
        least = self.settings.minimum_requests
        if min(mine.requests, theirs.requests) < least:
            found = f"{mine.requests} observations, {theirs.requests} of the old release"
            words = f"{figure} is inconclusive: {found}, at least {least} of each are needed"
            return [FigureCheck(figure, "inconclusive", words)]
        # A request may fail twice: refused, then cut.
        new, old = (Sample(min(one.failed, one.requests) / one.requests, 0.0, one.requests) for one in (mine, theirs))
        return [self.compare_shares(figure, new, old, limit, depends_on_load=True)]

    def share(self, figure: str, column: str, of: str, limit: float) -> list[FigureCheck]:
        depends_on_load = column == "failed"
        by = self.alike.by if depends_on_load else BOUNDED
        found = standardise_shares(self.old, self.new, by, column, of)
        if found is None or not self.is_enough(found):
            return self.open(figure, of, found)
        return [self.compare_shares(figure, found.new, found.old, limit, depends_on_load=depends_on_load)]

    def compare_shares(
        self, figure: str, new: Sample, old: Sample, limit: float, *, depends_on_load: bool
    ) -> FigureCheck:
        counts = (min(one.n, one.mean * one.n) for one in (new, old))  # rounding may put it above
        low, _ = self.compare.shares(next(counts), new.n, next(counts), old.n, self.confidence)
        words = f"{figure} {new.mean:.1%} of {new.n:.0f} against {old.mean:.1%} of {old.n:.0f}"
        words += f", at least {low:+.1%} more (limit {limit:+.1%})"
        return self.check(figure, low > limit, words, depends_on_load=depends_on_load)

    def times(self, figure: str, column: str, ratio: float, word: str = "more") -> list[FigureCheck]:
        """`less`: whether the old release's is more than `ratio` times the new one's."""
        depends_on_load = column != "tokens"
        by = self.alike.by if depends_on_load else BOUNDED
        found = standardise_means(self.old, self.new, by, column)
        if found is None or not self.is_enough(found):
            return self.open(figure, f"{column}_n", found)
        one, other = (found.new, found.old) if word == "more" else (found.old, found.new)
        low, _ = self.compare.means(
            one.mean, one.variance, one.n, other.mean, other.variance, other.n, ratio, self.confidence
        )
        shown = "shown" if low > 0 else "not shown"
        words = f"mean {figure} {found.new.mean:.4g} against {found.old.mean:.4g}, {shown} to be over {ratio:g} times "
        return [self.check(figure, low > 0, words + word, depends_on_load=depends_on_load)]
