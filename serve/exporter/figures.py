"""The figures of one environment, as Prometheus takes them: of what its loop saw last, and of its folder.

None names the environment: that is a label of the target, as it is of the router's figures and of vLLM's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.environment.config import DeployConfig
from configs.release import short
from infra.haproxy.router import Router
from infra.haproxy.tls import certificate_end
from infra.state.folder import state_folder
from serve.plan.action import Action, End
from serve.plan.situation import Situation
from serve.record.drift import difference

if TYPE_CHECKING:
    from prometheus_client import Metric

LONGEST_LABEL = 80


@dataclass(frozen=True)
class Seen:
    """What the loop saw at a moment, and the step that was in hand; `since`: of that step. Seconds, monotonic."""

    situation: Situation
    step: Action | End
    since: float
    at: float


@dataclass(frozen=True)
class Turn:
    """The agent's last one. `errors`: parts of it that failed; `behind`: commits of its branch that were seen and not
    taken."""

    seconds: float
    errors: int
    behind: int


def label(text: object) -> str:
    """What people or clients wrote, on one line and of a bounded length."""
    return "".join(one if one.isprintable() else "?" for one in str(text or "-"))[:LONGEST_LABEL]


def gauge(name: str, words: str, value: float, **labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    found = GaugeMetricFamily(f"tunegate_{name}", words, labels=list(labels))
    found.add_metric([label(value) if value else "" for value in labels.values()], value)
    return found


def figures_of(seen: Seen, turn: Turn | None) -> Iterator[Metric]:
    yield from standing(seen)
    yield from slots(seen.situation)
    yield from git(seen.situation, turn)
    if turn:
        yield gauge("turn_seconds", "The agent's last turn", turn.seconds)
        yield gauge("turn_errors", "Parts of the last turn that failed: tunegate logs ENV --slot agent", turn.errors)
    yield from outside(seen.situation.config)


def standing(seen: Seen) -> Iterator[Metric]:
    state, now = seen.situation.state, time.monotonic()
    holder = state.holder["command"] if state.holder else "-"
    yield gauge("holder_info", "Who holds the environment: agent, supervisor or a command", 1, holder=holder)
    yield gauge("look_age_seconds", "Since the environment was last looked at", now - seen.at)
    yield gauge("paged", "1 while a person is needed, and nothing is tried any more", state.paged is not None)
    yield gauge("paused", "1 while an operator lets nothing go further", state.wanted.paused)
    yield gauge("held", "1 while an operator keeps what serves, whatever is pinned", state.wanted.held)
    step = seen.step
    named = {"step": step.kind, "slot": step.slot or "", "proof": step.proof or "" if isinstance(step, Action) else ""}
    yield gauge("step_seconds", "For how long the plan's step has been in hand", now - seen.since, **named)


def slots(situation: Situation) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    state = situation.state
    names = ["slot", "release", "digest", "active"]
    info = GaugeMetricFamily("tunegate_slot_info", "The release in each slot, and which of them serves", labels=names)
    wanted = GaugeMetricFamily("tunegate_slot_servers_wanted", "Servers that the slot is to have", labels=["slot"])
    alive = GaugeMetricFamily("tunegate_slot_servers_alive", "Servers of it that live", labels=["slot"])
    for slot, found in state.slots.items():
        if found is None:
            continue
        digest = found.release.partition("@")[2]
        info.add_metric([slot, label(short(found.release)), label(digest), "yes" if slot == state.active else "no"], 1)
        living = [n for n, one in found.servers.items() if not one.crashed and (slot, n) not in situation.observed.died]
        wanted.add_metric([slot], found.count)
        alive.add_metric([slot], len(living))
    yield from (info, wanted, alive)


def git(situation: Situation, turn: Turn | None) -> Iterator[Metric]:
    """`drift` only where the YAML pins something: a supervisor reads none."""
    state, pinned = situation.state, situation.config.release
    if pinned is not None:
        differs = difference(state, pinned) is not None
        yield gauge("drift", "1 while what serves is not what the YAML pins: tunegate status ENV", differs)
    if turn and state.git.follows and state.holder and state.holder["command"] == "agent":
        pulled = state.git.pulled
        named = {"branch": state.git.follows, "commit": str(pulled.get("commit") or "")[:12]}
        yield gauge("git_info", "The branch that is followed, and where it stands", 1, **named)
        yield gauge("git_stays", "1 while nothing is taken from it: tunegate status ENV says why", "why" in pulled)
        yield gauge("git_commits_behind", "Commits of the branch that were seen and not taken", turn.behind)


def outside(config: DeployConfig) -> Iterator[Metric]:
    """What no loop looks at: the disk and the certificate."""
    with suppress(OSError):
        disk = os.statvfs(state_folder(config))
        yield gauge("state_free_bytes", "Room on the disk of the state folder", disk.f_bavail * disk.f_frsize)
        yield gauge("state_size_bytes", "That disk", disk.f_blocks * disk.f_frsize)
    end = certificate_end(Router(config).folder) if config.router.tls else None
    if end:
        left = end.timestamp() - time.time()
        yield gauge("certificate_seconds", "To the end of the certificate that the router shows", left)
