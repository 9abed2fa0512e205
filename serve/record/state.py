"""What is so in one environment: the nouns of a State. It is folded from the events by serve/record/fold.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from configs.slots import SLOTS, SlotName, other
from infra.boot import Moment
from serve.record.event import PROOF
from serve.record.facts import (
    Counters,
    Holder,
    Inconclusive,
    Mode,
    Planned,
    Queued,
    Receipt,
    Started,
    Stepped,
    Switched,
    TrafficCounts,
)
from serve.record.git_facts import Proposed, Pulled, Reported


@dataclass(frozen=True)
class ServerState:
    """What the record says of one server; whether its process lives is observed, not recorded, but that its death was
    seen is."""

    process: Started
    proofs: frozenset[str] = frozenset()
    crashed: bool = False


@dataclass(frozen=True)
class SlotState:
    """A slot is to have `count` servers of one release; those that were started, by number from 0. `rest`: asleep, or
    on the way there or back, where nobody knows."""

    release: str
    count: int = 1
    servers: Mapping[int, ServerState] = field(default_factory=dict)
    rest: Literal["asleep", "between"] | None = None

    @property
    def process(self) -> Started | None:
        """Of its first server that nobody saw die, else of the first."""
        known = sorted(self.servers.items(), key=lambda one: (one[1].crashed, one[0]))
        return known[0][1].process if known else None

    @property
    def crashed(self) -> bool:
        """Whether every server that it had died."""
        return bool(self.servers) and all(one.crashed for one in self.servers.values())

    @property
    def proofs(self) -> frozenset[str]:
        """What every one of its servers has shown."""
        if len(self.servers) < self.count:
            return frozenset()
        return frozenset.intersection(*(one.proofs for one in self.servers.values()))

    @property
    def is_proven(self) -> bool:
        """Whether a server has shown everything: its release may serve here, be it with fewer servers than it should
        have."""
        return any(one.proofs.issuperset(PROOF) for one in self.servers.values())

    @property
    def can_sleep(self) -> bool:
        """Whether all of its servers are there and were started so."""
        return not self.missing and all(one.process.get("place", {}).get("sleeps") for one in self.servers.values())

    @property
    def missing(self) -> list[int]:
        """Numbers of the servers that are to be started, again or for the first time."""
        return [one for one in range(self.count) if one not in self.servers or self.servers[one].crashed]


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `pinned`: the last request that came from a person's YAML, by `author` in `commit` where that
    YAML follows a branch; `why` something else is desired, or why that pin could not even be tried. `failed`: the
    release that a rollback left behind for good; `promoted`: the one that may take all of the traffic."""

    desired: str | None = None
    pinned: str | None = None
    commit: str | None = None
    author: str | None = None
    rollback: bool = False
    why: str | None = None
    failed: str | None = None
    promoted: str | None = None
    paused: bool = False
    held: bool = False


@dataclass(frozen=True)
class Git:
    """`follows`: the branch that the last agent took its pins from; `pulled`: what it took or refused of it last;
    `proposed`: the commit that writes a rollback back to it; `reported`: what GitLab was told last."""

    follows: str | None = None
    pulled: Pulled = field(default_factory=Pulled)
    proposed: Proposed = field(default_factory=Proposed)
    reported: Reported = field(default_factory=Reported)


class BaselineCounters(Queued, total=False):
    """The router's counters when traffic began to move, `at` that `moment`; `drained_seconds`: how long the old slot's
    streams then took to end."""

    at: str
    moment: Moment
    drained_seconds: float


class Share(Stepped):
    at: str
    moment: Moment


class Switch(Switched):
    """The last switch, at its `moment`; `began_before`: the counters at the first share, or at the queue of a swap,
    which was at the moment `began`."""

    at: str
    began: Moment
    moment: Moment
    began_before: dict[SlotName, TrafficCounts]
    began_unanswered: int | None
    queued_seconds: float | None
    drained_seconds: float


@dataclass(frozen=True)
class Moves:
    """How traffic moves. `weight`: the share (percent) of the candidate, the slot that does not serve yet, since
    `step`; `analysed`: the share that was last watched to its end. `swapping`: the slot that is stopped to make room;
    `switching`: the slot to switch to, between the intent and its confirmation; `switch`: the last one."""

    weight: int = 0
    analysed: int = 0
    step: Share | None = None
    baseline_counters: BaselineCounters | None = None
    swapping: SlotName | None = None
    switching: SlotName | None = None
    switch: Switch | None = None


@dataclass(frozen=True)
class State:
    """`refused`: why the desired release may not serve; `paged`: why a person is needed; `good`: releases that came
    through their bake, the newest last; `crashes`: release and moment of each of the last day. `last_switched`: when
    each release last got all of the traffic, the newest last; `proof_seconds`: how long each proof took last.

    `counted`: the counters of a slot when traffic last came to it; `counted_before_load`: when its candidate's load
    test began to take its time. `receipt`: of the last bake; `inconclusive`: the watch under way could not tell.
    """

    holder: Holder | None = None
    wanted: Wanted = Wanted()
    git: Git = field(default_factory=Git)
    moves: Moves = Moves()
    slots: dict[SlotName, SlotState | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    active: SlotName | None = None
    planned: Planned = field(default_factory=Planned)
    refused: str | None = None
    baked: bool = True
    good: tuple[str, ...] = ()
    crashes: tuple[tuple[str, Moment], ...] = ()
    paged: str | None = None
    last_switched: dict[str, str] = field(default_factory=dict)
    proof_seconds: dict[str, float] = field(default_factory=dict)
    counted: dict[SlotName, Counters] = field(default_factory=dict)
    counted_before_load: dict[SlotName, Counters] = field(default_factory=dict)
    receipt: Receipt | None = None
    inconclusive: Inconclusive | None = None

    @property
    def awaits_person(self) -> str | None:
        """Why a watch that could not tell goes on until a person resumes, aborts or rolls back."""
        found = self.inconclusive
        return found["why"] if found and found["then"] == "pause" else None

    @property
    def token(self) -> int:
        return self.holder["token"] if self.holder else 0

    def release_of(self, slot: SlotName | None) -> str | None:
        found = self.slots[slot] if slot else None
        return found.release if found else None

    @property
    def capacity(self) -> Mode | None:
        return self.planned.get("mode")

    @property
    def candidate(self) -> SlotName | None:
        return other(self.active) if self.active else None

    @property
    def last_good(self) -> str | None:
        """The newest release that came through its bake, the desired and the failed one excepted."""
        given_up = (self.wanted.desired, self.wanted.failed)
        return next((one for one in reversed(self.good) if one not in given_up), None)
