"""A swap: one slot after the other, where there is no memory for two. And what it shares with the planner's other
rules. Pure."""

from __future__ import annotations

from configs.slots import SlotName, other
from serve.plan.action import Action, End
from serve.plan.situation import Situation
from serve.record.event import PROOF
from serve.record.state import SlotState


def swap(now: Situation) -> Action | End | None:
    """No memory for two. Going: the old server stops or sleeps, the new one starts and is proven, or wakes. Coming
    back, where the new one failed or is not wanted any more: the old one starts again, or wakes."""
    moves = now.state.moves
    if moves.swapping is None:
        return None
    old_release = moves.baseline_counters["release"] if moves.baseline_counters else None
    if now.state.refused is None and now.desired not in (None, old_release):
        return swap_going(now, moves.swapping, other(moves.swapping))
    return swap_coming_back(now, moves.swapping, other(moves.swapping), old_release)


def swap_going(now: Situation, old: SlotName, new: SlotName) -> Action:
    found = now.state.slots[new]
    if found and any(one.crashed for one in found.servers.values()):
        return Action("refuse", new, why=f"{found.release}: its server died while requests waited")
    leaving = now.state.slots[old]
    if leaving and not (leaving.rest == "asleep" and old in now.observed.alive):
        return Action("sleep" if may_sleep(now, old, new) else "stop", old)
    if found is None:
        return Action("start", new, release=now.desired)
    if not now.runs(new, now.desired):
        return Action("stop", new)
    if found.rest:
        return Action("wake", new)
    if found.missing:
        return Action("start", new, found.missing[0], release=now.desired)
    missing = missing_proof(found)
    return Action("prove", new, missing[1], proof=missing[0]) if missing else Action("switch", new)


def may_sleep(now: Situation, old: SlotName, new: SlotName) -> bool:
    """What failed does not stay."""
    leaving, coming = now.state.slots[old], now.state.slots[new]
    if leaving is None or old not in now.observed.alive or leaving.release == now.state.wanted.failed:
        return False
    return leaving.can_sleep and (now.state.capacity == "sleep" or (coming is not None and coming.rest is not None))


def swap_coming_back(now: Situation, old: SlotName, new: SlotName, release: str | None) -> Action | End:
    coming = now.state.slots[new]
    if coming and not (coming.rest == "asleep" and new in now.observed.alive and now.state.refused is None):
        return Action("stop", new)
    found = now.state.slots[old]
    if found is None or not found.servers or old not in now.observed.alive:
        return start_again(now, old, release) or Action("start", old, release=release)
    if found.rest:
        return Action("wake", old)
    if any("healthy" in one.proofs for one in found.servers.values()):
        return Action("switch", old)  # the others follow once it serves
    return Action("prove", old, min(found.servers), proof="healthy")


def start_again(now: Situation, slot: SlotName, release: str | None, server: int = 0) -> Action | End | None:
    """With a growing wait; at the restart limit the newest other release that came through its bake is wanted, else a
    person."""
    state = now.state
    if state.paged:
        return End("paged", slot, why=state.paged)
    if release == state.wanted.failed and state.refused is None:
        return None  # given up for the desired release, which starts in the other slot
    if now.crashes_too_often(release):
        if state.last_good not in (None, release) and state.refused is None:
            return Action("fall_back", slot, release=state.last_good, why=now.restart_limit)
        return Action("page", slot, why=f"{release}: {now.restart_limit}, and there is no release to go back to")
    count = now.crash_count(release)
    waited = min((now.observed.now.since(at) for one, at in state.crashes if one == release), default=0.0)
    wait = now.config.supervision.backoff_seconds * 2 ** (count - 2) if count > 1 else 0.0
    if waited < wait:
        return Action("wait", slot, seconds=wait - waited)
    return Action("start", slot, server, release=release)


def missing_proof(found: SlotState, *more: str) -> tuple[str, int] | None:
    """The next proof, and the server that is to show it: each shows one before any shows the next. What is shown by a
    shadow one server shows for all."""
    for proof in (*PROOF, *more):
        lacking = [number for number, one in sorted(found.servers.items()) if proof not in one.proofs]
        if lacking and (proof not in more or len(lacking) == len(found.servers)):
            return proof, lacking[0]
    return None
