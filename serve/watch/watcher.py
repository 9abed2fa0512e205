"""The watch under traffic: is the new release worse than the old one was? `compare_window` is pure; `Watcher` reads
counters and asks it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.slots import SlotName, other
from infra.vllm.counters import Counted, between, read_metrics
from serve.record.facts import Counters
from serve.watch.compare import FigureCheck, compare_window

if TYPE_CHECKING:
    from serve.record.environment import Environment


def count_slot(env: Environment, slot: SlotName) -> Counted:
    traffic = env.router.traffic()[slot]
    server = read_metrics(*env.server_urls(env.record.state(), slot))
    return Counted(requests=traffic.total, failed=traffic.failed + traffic.cut_by_server, **server)


def counted_at_takeover(env: Environment, slot: SlotName) -> Counted:
    """What the slot had counted when traffic last came to it: its proofs, which are no traffic."""
    return Counted.model_validate(env.record.state().counted.get(slot) or {})


def baseline(env: Environment, slot: SlotName) -> Counters:
    """What a slot showed under its own traffic, from its takeover until others asked it too: at the candidate's
    load test, or at once where the candidate was loaded into the same server. Without a candidate until now."""
    last = env.record.state().counted_before_load.get(slot)
    until = Counted.model_validate(last) if last is not None else count_slot(env, slot)
    return between(counted_at_takeover(env, slot), until).model_dump(mode="json")


@dataclass
class Watcher:
    """One slot under traffic. `baseline`: as the function of that name gives it, of the release that served before;
    None: there was none.

    While the other slot serves too (a canary), its own figures since then take the baseline's place as soon as they are
    enough: same hour, same users.
    """

    env: Environment
    slot: SlotName
    baseline: Counters | None
    seconds: float | None = None
    looked: float = 0.0
    since: dict[SlotName, Counted] = field(default_factory=dict)
    checks: list[FigureCheck] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = {
            self.slot: counted_at_takeover(self.env, self.slot),
            other(self.slot): count_slot(self.env, other(self.slot)),
        }

    def check(self, *, last: bool = False) -> list[str]:
        """Sentences of the breaches; compares once in every_seconds and, `last`, at the end of the watch. In between
        there are none."""
        settings, compare = self.env.config.watch, self.env.compare
        early = time.monotonic() - self.looked < settings.every_seconds and not last
        if compare is None or self.baseline is None or early:
            return []
        self.looked = time.monotonic()
        window, beside = (
            between(self.since[slot], count_slot(self.env, slot)) for slot in (self.slot, other(self.slot))
        )
        held_against = beside if beside.requests >= settings.minimum_requests else Counted.model_validate(self.baseline)
        looks = (
            int((self.env.config.bake_seconds if self.seconds is None else self.seconds) / settings.every_seconds) + 1
        )
        self.checks = compare_window(held_against, window, settings, compare, looks)
        return [one.sentence for one in self.checks if one.outcome == "breach"]

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
