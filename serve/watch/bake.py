"""The watch over a release under traffic: at each share of a canary, and after the switch. A breach raises; a change of
mind ends it; where it cannot tell, `watch.on_inconclusive` says what follows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from configs.environment.strategy import Canary
from configs.errors import RefusedError
from configs.slots import SlotName, other
from infra.boot import Moment, now
from infra.vllm.server import is_alive
from serve.record.environment import Environment
from serve.record.facts import Analysed, Inconclusive, Receipt, TrafficCounts, Watched
from serve.record.receipt import lost_of, receipt, since, write_receipt
from serve.record.state import State
from serve.watch.liveness import Liveness
from serve.watch.watcher import Watcher, baseline

POLL_SECONDS = 0.25
LOG_SECONDS = 1.0  # a stream that was cut is in the access log a moment after it was counted


def analyse(env: Environment, state: State, slot: SlotName) -> None:
    """Watches the candidate at its present share for the strategy's own time, against what serves beside it. Raises
    RefusedError on a breach."""
    strategy, share = env.config.strategy, state.moves.step
    seconds = strategy.bake_seconds if isinstance(strategy, Canary) else 0
    assert share is not None
    env.report_progress(f"watch {slot} at {state.moves.weight} % for {seconds} s")
    watcher = Watcher(env, slot, baseline(env, other(slot)), seconds, is_share=True)
    before = share["before"][slot]
    watch = TrafficWatch(env, state, slot, watcher, before, share["moment"], seconds)
    if not watch.until_over():
        return
    counted = since(env.router.traffic()[slot], before)
    facts: Analysed = {
        "weight": state.moves.weight,
        "requests": counted.total,
        "failed": counted.failed,
        "watch": watcher.receipt(),
        **watch.result(),
    }
    env.record.append("analysed", slot, **facts)


def bake(env: Environment, state: State) -> None:
    """Watches the new slot under all of the traffic until its bake is over, then waits until the old one's streams have
    ended or the deadline has passed; where a person pauses meanwhile, it watches on.

    Raises RefusedError on a breach.
    """
    slot, switch, seconds = state.active, state.moves.switch, env.config.bake_seconds
    assert slot is not None and switch is not None
    env.report_progress(f"bake {slot} for {seconds} s")
    old, before, started = switch["from"], switch["before"][slot], switch["moment"]
    watcher = Watcher(env, slot, baseline(env, old) if old else None, seconds)
    watch = TrafficWatch(env, state, slot, watcher, before, started, seconds, old)
    try:
        while watch.until_over():
            if watch.until_drained():
                env.record.append("baked", slot, **without_names(close(watch)))
                return
            if watch.has_changed():
                return
    except RefusedError as error:
        close(watch, breach=error.message)
        raise


def close(watch: TrafficWatch, breach: str | None = None) -> Receipt:
    """Writes the receipt of a bake that came to its end, or to a breach."""
    env, state = watch.env, watch.state
    router, deadline = env.router, time.monotonic() + LOG_SECONDS
    while True:
        seconds, lost = now().since(watch.started), lost_of(env, state)
        found = receipt(
            state,
            env.config.strategy.kind,
            router.traffic(),
            seconds,
            watch.drain_seconds,
            router.unanswered(),
            lost,
        )
        if len(lost["named"]) + lost["more"] >= found["streams_cut"] or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    found["watch"] = watch.watcher.receipt()
    if breach is None:
        found = {**found, **watch.result()}
    else:
        found = {**found, "breach": breach, "outcome": "fail", "decided_by": breach}
    write_receipt(env, state, found)
    return found


def without_names(found: Receipt) -> Receipt:
    """For the record, which is kept for ever."""
    kept = found.copy()
    kept.pop("lost", None)
    return kept


@dataclass
class TrafficWatch:
    """`slot` under traffic since `started`, for so many `seconds`. `before`: the router's counts of it at that moment;
    `old`: the slot whose streams may still be open, which were last seen so after `drain_seconds`."""

    env: Environment
    state: State
    slot: SlotName
    watcher: Watcher
    before: TrafficCounts
    started: Moment
    seconds: float
    old: SlotName | None = None
    drain_seconds: float = 0.0
    is_draining: bool = False
    liveness: Liveness = field(default_factory=Liveness)

    def until_over(self) -> bool:
        """False as soon as something else is wanted. Raises RefusedError on a breach."""
        while True:
            self.look_at_old()
            last = self.is_over()
            self.liveness.check(self.env, self.state, self.slot)
            self.check_traffic()
            if self.has_changed():
                return False
            if last and self.may_end():
                return True
            time.sleep(POLL_SECONDS)

    def may_end(self) -> bool:
        """Not as long as it cannot tell: it is extended once, then a person is waited for, who has the last word."""
        outcome, why = self.watcher.outcome()
        if outcome != "inconclusive" or self.accepted_by():
            return True
        settings, extended = self.env.config.watch, self.env.record.state().inconclusive
        left = self.seconds + settings.extend_seconds - now().since(self.started)
        if settings.on_inconclusive == "extend" and left > 0:
            if extended is None:
                self.note({"why": why, "then": "extend", "seconds": settings.extend_seconds})
            return False
        self.note({"why": why, "then": "pause"})
        if self.state.active == self.slot:
            close(self)
        return False

    def note(self, facts: Inconclusive) -> None:
        goes_on = f"paused, a person is needed: tunegate resume {self.env.config.name}"
        if "seconds" in facts:
            goes_on = f"watched for {facts['seconds']:g} s more at most"
        self.env.report_progress(f"inconclusive: {facts['why']}: {goes_on}")
        self.env.record.append("inconclusive", self.slot, **facts)

    def accepted_by(self) -> str | None:
        """Who says that an inconclusive watch may end. One of no seconds was never meant to tell anything."""
        found = self.env.record.state().inconclusive
        if found and found["then"] == "accept":
            return "a person"
        if self.seconds == 0:
            return "bake_seconds: 0"
        return "on_inconclusive: accept" if self.env.config.watch.on_inconclusive == "accept" else None

    def result(self) -> Watched:
        outcome, why = self.watcher.outcome()
        found: Watched = {"outcome": outcome, "decided_by": why}
        by = self.accepted_by()
        return {**found, "accepted_by": by} if outcome == "inconclusive" and by else found

    def until_drained(self) -> bool:
        """At most until the deadline; False as soon as something else is wanted, or a person pauses. Raises
        RefusedError where the new slot hangs."""
        while self.is_draining and now().since(self.started) < self.env.config.drain_deadline_seconds:
            time.sleep(POLL_SECONDS)
            if self.has_changed() or not self.is_over():
                return False
            self.look_at_old()
            self.liveness.check(self.env, self.state, self.slot)
        return True

    def look_at_old(self) -> None:
        lives = self.old is not None and self.old in self.env.alive(self.state)
        self.is_draining = bool(lives and self.old and self.env.router.open_streams(self.old))
        if self.is_draining:
            self.drain_seconds = now().since(self.started)

    @property
    def time_is_up(self) -> bool:
        return now().since(self.started) >= self.seconds

    def is_over(self) -> bool:
        """Not while an operator has paused, or is waited for."""
        state = self.env.record.state()
        return self.time_is_up and not state.wanted.paused and state.awaits_person is None

    def has_changed(self) -> bool:
        """True once an operator, or a new pin, wants something else than what is being watched."""
        here, was = self.env.record.state(), self.state
        return here.refused != was.refused or any(
            getattr(here.wanted, name) != getattr(was.wanted, name) for name in ("desired", "held")
        )

    def check_traffic(self) -> None:
        """Raises RefusedError if the slot's server died, more of its requests failed than are allowed, or it is worse
        than what served."""
        env = self.env
        release, log = self.state.wanted.desired, f"less {env.folder}/{self.slot}.log"
        failed, allowed = since(env.router.traffic()[self.slot], self.before).failed, env.config.watch.failures_allowed
        if not all(map(is_alive, env.processes(self.state, self.slot))):
            raise RefusedError(f"{release}: under traffic its server died", hint=log)
        too_many = [f"{failed} requests failed"] if allowed is not None and failed > allowed else []
        breaches = too_many or self.watcher.check(over=self.time_is_up)
        if breaches:
            raise RefusedError(f"{release}: under traffic {'; '.join(breaches)}", hint=log)
