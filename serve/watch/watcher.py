"""The watch under traffic: is the new release worse than the old one was? `compare_window` is pure; `Watcher` reads
counters and asks it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.slots import SlotName, other
from infra.vllm.counters import Counted, between, read_strata
from serve.record.facts import Counters, Outcome
from serve.watch.alike import likeness, requests
from serve.watch.compare import FigureCheck, compare_window, decide

if TYPE_CHECKING:
    from serve.record.environment import Environment


def count_slot(env: Environment, slot: SlotName) -> Counted:
    traffic = env.router.traffic()[slot]
    strata = read_strata(slot, *env.server_urls(env.record.state(), slot))
    return Counted(requests=traffic.total, failed=traffic.failed + traffic.cut_by_server, strata=strata)


def counted_at_takeover(env: Environment, slot: SlotName) -> Counted:
    """What the slot had counted when traffic last came to it."""
    return Counted.model_validate(env.record.state().counted.get(slot) or {})


def baseline(env: Environment, slot: SlotName) -> Counters:
    """What a slot showed under its own traffic, from its takeover until its candidate's load test, its candidate's
    adapter or a swap changed what it is like to be asked. Without any of them until now."""
    last = env.record.state().counted_before_load.get(slot)
    until = Counted.model_validate(last) if last is not None else count_slot(env, slot)
    return between(counted_at_takeover(env, slot), until).model_dump(mode="json", exclude_none=True)


@dataclass
class Watcher:
    """One slot under traffic, for so many `seconds`. `baseline`: as the function of that name gives it, of the release
    that served before; None: there was none. `is_share`: it gets only a part of the traffic.

    While the other slot serves too (a canary), its own figures since then take the baseline's place as soon as they are
    enough, and of traffic that is alike: same hour, same users.
    """

    env: Environment
    slot: SlotName
    baseline: Counters | None
    seconds: float
    is_share: bool = False
    looked: float = 0.0
    further: int | None = None
    since: dict[SlotName, Counted] = field(default_factory=dict)
    checks: list[FigureCheck] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = {
            self.slot: counted_at_takeover(self.env, self.slot),
            other(self.slot): count_slot(self.env, other(self.slot)),
        }

    def check(self, *, over: bool = False) -> list[str]:
        """Sentences of the breaches; compares once in every_seconds, and when the watch is `over`. In between there are
        none.

        Half of what may alarm falsely is for these looks. Where it was inconclusive and watches on, it looks again when
        as many requests have come as are needed, twice as many, and so on: look j gets 1 / (j (j + 1)) of the other
        half, which is never used up.
        """
        settings = self.env.config.watch
        is_last = over and self.further is None
        if self.env.compare is None or self.baseline is None:
            return []
        if time.monotonic() - self.looked < settings.every_seconds and not is_last:
            return []
        self.looked = time.monotonic()
        window, beside = (
            between(self.since[slot], count_slot(self.env, slot)) for slot in (self.slot, other(self.slot))
        )
        users = window.requests if window.strata is None else requests(window.strata)
        times = users // settings.minimum_requests
        if self.further is None:
            looks = 2 * (int(self.seconds / settings.every_seconds) + 1)
        elif times > self.further:
            looks = 2 * times * (times + 1)
        else:
            return []
        self.further = times if over else None
        return self.compare(window, beside, looks)

    def compare(self, window: Counted, beside: Counted, looks: int) -> list[str]:
        settings, compare = self.env.config.watch, self.env.compare
        assert compare is not None
        held_against = beside if self.is_measure(window, beside) else Counted.model_validate(self.baseline)
        self.checks = compare_window(held_against, window, settings, compare, looks, is_share=self.is_share)
        return [one.sentence for one in self.checks if one.outcome == "breach"]

    def is_measure(self, window: Counted, beside: Counted) -> bool:
        settings, strata = self.env.config.watch, (beside.strata or {}, window.strata or {})
        if min(map(requests, strata)) < settings.minimum_requests:
            return False
        alike = likeness(*strata, settings)
        return alike.why_not is None and alike.load == "as loaded"

    def outcome(self) -> tuple[Outcome, str]:
        """With the figures that decided. A first release has nothing to be worse than."""
        if self.baseline is None:
            return "pass", self.receipt()[0]
        return decide(self.checks) if self.checks else ("inconclusive", self.receipt()[0])

    def receipt(self) -> list[str]:
        """Every figure's last sentence, the inconclusive ones too; why there is none, where nothing was compared."""
        if self.env.compare is None or self.baseline is None:
            return [
                "nothing was compared: no release served before"
                if self.baseline is None
                else "nothing was compared: no statistics at hand"
            ]
        return [one.sentence for one in self.checks] or [
            f"nothing was compared: watched for less than {self.env.config.watch.every_seconds:g} s"
        ]
