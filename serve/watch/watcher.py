"""The watch under traffic: is the new release worse than the old one was? `judge_window` is pure; `Watcher` reads counters and asks it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from configs.environment.watch import Watch
from configs.slots import SLOTS, SlotName
from infra.vllm.counters import Counted, Histogram, between, read_metrics
from serve.record.record import other
from serve.watch.spread import variance

if TYPE_CHECKING:
    from serve.record.environment import Environment

# Answers that did not go through the door (probes, load tests, shadows): with more of them a server's own figures say little about its users.
MOST_DIRECT = 0.2
FIGURES = 7  # error rate, first token, per token, empty, truncated, longer, shorter: each may alarm
Interval = tuple[float, float]


@dataclass(frozen=True)
class Compare:
    """The gate's statistics (eval.unpaired), handed over by the front door, for this room does not know that one."""

    shares: Callable[[int, int, int, int, float], Interval]
    means: Callable[[float, float, int, float, float, int, float, float], Interval]


@dataclass(frozen=True)
class Finding:
    """One figure of a window against the baseline. `fine` is: not shown to be worse by more than the limit."""

    figure: str
    outcome: Literal["fine", "breach", "inconclusive"]
    sentence: str


def judge_window(baseline: Counted, window: Counted, settings: Watch, compare: Compare, looks: int = 1) -> list[Finding]:
    """Pure. A breach is an interval that lies wholly beyond its limit; with fewer than minimum_requests on either side nothing is said to be shown.

    `looks`: how often the window will be judged; Bonferroni over looks and figures keeps the chance of any false breach below false_alarm.
    """
    confidence = 1 - 2 * settings.false_alarm / (FIGURES * max(1, looks))
    judged = Judged(settings, compare, confidence)
    found = [judged.share("error rate", (window.failed, window.requests), (baseline.failed, baseline.requests), settings.error_rate_increase)]
    for side, one in (("new", window), ("old", baseline)):
        direct = (one.answers or 0) - one.requests
        if direct > MOST_DIRECT * (one.answers or 0):
            words = f"answers are inconclusive: {direct} of the {side} release's {one.answers} did not go through the door"
            return [*found, Finding("answers", "inconclusive", f"{words} (probes, load tests): only the error rate is compared")]
    found += judged.times("time to first token", window.first, baseline.first, settings.time_to_first_token_ratio)
    found += judged.times("time per output token", window.per_token, baseline.per_token, settings.inter_token_ratio)
    if window.answers is None or baseline.answers is None:
        found.append(Finding("answers", "inconclusive", "vLLM's counters were not read: only the error rate is compared"))
    if window.lengths is None or baseline.lengths is None:
        return found
    lengths = window.lengths, baseline.lengths
    empty = [(one.at_most(1), one.n) for one in lengths]
    found.append(judged.share("share of empty answers", empty[0], empty[1], settings.empty_increase))
    cut = [(one.truncated, one.answers or 0) for one in (window, baseline)]
    found.append(judged.share("share of truncated answers", cut[0], cut[1], settings.truncated_increase))
    return [
        *found,
        *judged.times("answer length", *lengths, settings.length_ratio),
        *judged.times("answer length", *lengths[::-1], settings.length_ratio, "less"),
    ]


@dataclass(frozen=True)
class Judged:
    settings: Watch
    compare: Compare
    confidence: float

    def too_few(self, figure: str, n: int, other_n: int) -> Finding | None:
        least = self.settings.minimum_requests
        words = f"{figure} is inconclusive: {n} observations, {other_n} of the old release, at least {least} of each are needed"
        return Finding(figure, "inconclusive", words) if min(n, other_n) < least else None

    def share(self, figure: str, mine: tuple[int, int], theirs: tuple[int, int], limit: float) -> Finding:
        few = self.too_few(figure, mine[1], theirs[1])
        if few:
            return few
        count, n, other_count, other_n = min(mine), mine[1], min(theirs), theirs[1]  # a request may fail twice: refused, then cut
        low, _ = self.compare.shares(count, n, other_count, other_n, self.confidence)
        words = f"{figure} {count / n:.1%} of {n} against {other_count / other_n:.1%} of {other_n}, at least {low:+.1%} more (limit {limit:+.1%})"
        return Finding(figure, "breach" if low > limit else "fine", words)

    def times(self, figure: str, mine: Histogram | None, theirs: Histogram | None, ratio: float, word: str = "more") -> list[Finding]:
        """`less`: the sides are swapped, the sentence still begins with the new release's."""
        if mine is None or theirs is None:
            return []
        few = self.too_few(figure, *((mine.n, theirs.n) if word == "more" else (theirs.n, mine.n)))
        if few:
            return [few]
        means = mine.total / mine.n, theirs.total / theirs.n
        low, _ = self.compare.means(means[0], variance(mine), mine.n, means[1], variance(theirs), theirs.n, ratio, self.confidence)
        new, old = means if word == "more" else means[::-1]
        words = f"mean {figure} {new:.4g} against {old:.4g}, {'shown' if low > 0 else 'not shown'} to be over {ratio:g} times {word}"
        return [Finding(figure, "breach" if low > 0 else "fine", words)]


def count_slot(env: Environment, slot: SlotName) -> Counted:
    traffic = env.router.traffic()[slot]
    server = read_metrics(env.server_url(env.record.state(), slot))
    return Counted(requests=traffic.total, failed=traffic.failed + traffic.cut_by_server, **server)


def count_slots(env: Environment) -> dict[str, Any]:
    """Both slots' counters as the record keeps them, at the moment that traffic moves."""
    return {slot: count_slot(env, slot).model_dump(mode="json") for slot in SLOTS}


def counted_at_takeover(env: Environment, slot: SlotName) -> Counted:
    """What the slot had counted when traffic last came to it: its proofs, which are no traffic."""
    events = [event for event in env.record.read() if event.kind in ("switched", "stepped") and event.slot == slot]
    return Counted.model_validate((events[-1].facts.get("counted") or {}).get(slot) or {}) if events else Counted()


def baseline(env: Environment, slot: SlotName) -> dict[str, Any]:
    """What a slot showed under its own traffic, from its takeover until others asked it too: at its heir's load test, or at once where the heir was

    loaded into the same server. Without an heir until now."""
    last = counted_before_load(env, slot)
    return between(counted_at_takeover(env, slot), last or count_slot(env, slot)).model_dump(mode="json")


def counted_before_load(env: Environment, slot: SlotName) -> Counted | None:
    for event in reversed(env.record.read()):
        if event.kind in ("started", "proven") and event.slot != slot and slot in event.facts.get("counted", {}):
            return Counted.model_validate(event.facts["counted"][slot])
        if event.kind in ("switched", "stepped") and event.slot == slot:
            return None
    return None


@dataclass
class Watcher:
    """One slot under traffic. `baseline`: as the function of that name gives it, of the release that served before; None: there was none.

    While the other slot serves too (a canary), its own figures since then take the baseline's place as soon as they are enough: same hour, same users.
    """

    env: Environment
    slot: SlotName
    baseline: dict[str, Any] | None
    seconds: float | None = None
    looked: float = 0.0
    since: dict[SlotName, Counted] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = {self.slot: counted_at_takeover(self.env, self.slot), other(self.slot): count_slot(self.env, other(self.slot))}

    def check(self, *, last: bool = False) -> list[str]:
        """Sentences of the breaches; judges once in every_seconds and, `last`, at the end of the watch. In between it has none to tell."""
        settings, compare = self.env.config.watch, self.env.compare
        early = time.monotonic() - self.looked < settings.every_seconds and not last
        if compare is None or self.baseline is None or early:
            return []
        self.looked = time.monotonic()
        window, beside = (between(self.since[slot], count_slot(self.env, slot)) for slot in (self.slot, other(self.slot)))
        held_against = beside if beside.requests >= settings.minimum_requests else Counted.model_validate(self.baseline)
        looks = int((self.env.config.bake_seconds if self.seconds is None else self.seconds) / settings.every_seconds) + 1
        self.findings = judge_window(held_against, window, settings, compare, looks)
        return [one.sentence for one in self.findings if one.outcome == "breach"]

    def receipt(self) -> list[str]:
        """Every figure's last sentence, the inconclusive ones too; why there is none, where nothing was compared."""
        if self.env.compare is None or self.baseline is None:
            return ["nothing was compared: no release served before" if self.baseline is None else "nothing was compared: no statistics at hand"]
        return [one.sentence for one in self.findings] or [f"nothing was compared: watched for less than {self.env.config.watch.every_seconds:g} s"]
