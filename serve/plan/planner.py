"""What to do next. Pure: a state, what was observed and the environment's wishes in, one action out. No I/O; the time is observed as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from configs.environment.config import DeployConfig
from configs.environment.strategy import Canary, ShadowFirst
from configs.slots import SLOTS, SlotName, other
from serve.record.state import PROOF, SlotState, State

ActionKind = Literal[
    "open_door", "crashed", "fall_back", "page", "wait", "measure", "queue", "start", "prove", "step", "analyse", "await_promotion", "switch", "bake", "stop",
    "refuse", "refused", "paused", "paged", "done",
]  # fmt: skip
# Nothing more is to be done until a person, or the world, changes something.
ENDS: frozenset[ActionKind] = frozenset({"await_promotion", "refused", "paused", "paged", "done"})


@dataclass(frozen=True)
class Observed:
    """The world now: whether the router runs, the percent of new requests it gives each slot, which recorded processes live,
    which of them accept and never answer, and the time (seconds since the epoch)."""

    door_open: bool
    weights: Mapping[SlotName, int]
    alive: frozenset[SlotName]
    hung: frozenset[SlotName] = frozenset()
    now: float = 0.0

    @property
    def routed(self) -> SlotName | None:
        return next((slot for slot in SLOTS if self.weights.get(slot) == 100), None)


@dataclass(frozen=True)
class Action:
    """`release` is what to start in `slot` or to fall back to; `proof` is the next thing that `slot` must show; `weight` its next share."""

    kind: ActionKind
    slot: SlotName | None = None
    release: str | None = None
    proof: str | None = None
    weight: int | None = None
    seconds: float = field(default=0.0)
    why: str | None = None


def plan(state: State, config: DeployConfig, observed: Observed) -> Action:
    """The one next action towards the desired release. What serves is never stopped, nor left before its heir is proven."""
    if not observed.door_open:
        return Action("open_door")
    found = see_crash(state, observed)
    if found:
        return found
    if state.switching:
        return Action("switch", state.switching)
    if state.swapping:
        return swap(state, config, observed, state.swapping)
    if state.active:
        repair = keep_serving(state, config, observed, state.active)
        if repair:
            return repair
    if state.refused is not None:
        return clear_refused(state)
    if state.desired is None:
        return Action("done")
    if state.active and state.release_of(state.active) == state.desired:
        return settle(state, config, observed, state.active)
    is_watched = state.weight and state.analysed != state.weight
    if state.paused and not is_watched and (state.active is None or state.active in observed.alive):
        return Action("paused")
    return advance(state, config, observed, idle_slot(state, observed))


def idle_slot(state: State, observed: Observed) -> SlotName:
    """Where nothing is active the router may still send to one slot: what starts there would be asked before it is proven."""
    if state.active:
        return other(state.active)
    return "green" if observed.weights.get("blue") else "blue"


def see_crash(state: State, observed: Observed) -> Action | None:
    """A death is put on record before anything is done about it: strikes and backoff are counted from there."""
    for name, slot in state.slots.items():
        if not slot or not slot.process or slot.crashed:
            continue
        if name not in observed.alive:
            return Action("crashed", name, why="its process ended")
        if name in observed.hung:
            return Action("crashed", name, why="it accepts requests and does not answer")
    return None


def keep_serving(state: State, config: DeployConfig, observed: Observed, active: SlotName) -> Action | None:
    """First of all duties: a dead server's proven heir takes over at once, else the same release starts again in place."""
    if active not in observed.alive:
        heir = state.slots[other(active)]
        if heir and is_ready(heir, other(active), observed):
            return take_over(state, config, observed, active, heir)
        return start_again(state, config, observed, active, state.release_of(active))
    here = state.slots[active]
    if here and "healthy" not in here.proofs:
        return Action("prove", active, proof="healthy")
    expected = {active: 100 - state.weight, other(active): state.weight}
    if any(observed.weights.get(slot, 0) != percent for slot, percent in expected.items()):
        return Action("step", other(active), weight=state.weight)  # no switch: the release that serves was baked and stays so
    return None


def take_over(state: State, config: DeployConfig, observed: Observed, active: SlotName, heir: SlotState) -> Action:
    """Traffic first. A release that died in its bake, or has struck out, is given up for its heir, or it would be brought back only to die again."""
    release = state.release_of(active)
    if release == state.desired and release != heir.release:
        if not state.baked and not state.rollback:
            return Action("fall_back", active, release=heir.release, why="under traffic its server died, in its bake")
        if strikes(state, config, observed, release) >= config.supervision.strikes:
            return Action("fall_back", active, release=heir.release, why=struck_out(config))
    return Action("switch", other(active))


def start_again(state: State, config: DeployConfig, observed: Observed, slot: SlotName, release: str | None) -> Action | None:
    """With a growing wait; at the last strike the newest other release that came through its bake is wanted, else a person."""
    if state.paged:
        return Action("paged", slot, why=state.paged)
    if release == state.failed and state.refused is None:
        return None  # given up for the desired release, which starts in the other slot
    count = strikes(state, config, observed, release)
    if count >= config.supervision.strikes:
        if state.last_good not in (None, release) and state.refused is None:
            return Action("fall_back", slot, release=state.last_good, why=struck_out(config))
        return Action("page", slot, why=f"{release}: {struck_out(config)}, and there is no release to go back to")
    last = max((seconds_of(at) for one, at in state.crashes if one == release), default=0.0)
    wait = config.supervision.backoff_seconds * 2 ** (count - 2) if count > 1 else 0.0
    if observed.now < last + wait:
        return Action("wait", slot, seconds=last + wait - observed.now)
    return Action("start", slot, release=release)


def strikes(state: State, config: DeployConfig, observed: Observed, release: str | None) -> int:
    """Crashes of this release within the window."""
    since = observed.now - config.supervision.window_seconds
    return sum(one == release and seconds_of(at) >= since for one, at in state.crashes)


def struck_out(config: DeployConfig) -> str:
    return f"{config.supervision.strikes} crashes within {config.supervision.window_seconds} s"


def seconds_of(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def is_ready(slot: SlotState | None, name: SlotName, observed: Observed) -> bool:
    return slot is not None and slot.is_proven and name in observed.alive and name not in observed.hung


def settle(state: State, config: DeployConfig, observed: Observed, active: SlotName) -> Action:
    """The desired release serves: bake it, then retire the old slot unless it is to stay warm."""
    if not state.baked and not state.rollback:
        return Action("bake", active)
    old = other(active)
    slot = state.slots[old]
    unwanted = slot is not None and slot.release != state.desired and slot.release not in state.good
    if slot and (not config.keep_old_slot or old not in observed.alive or slot.release == state.failed or unwanted):
        return Action("stop", old)
    return Action("done", active)


def clear_refused(state: State) -> Action:
    """A refused release leaves no process behind; what served serves on."""
    for name, slot in state.slots.items():
        if slot and name != state.active and slot.release == state.desired:
            return Action("stop", name)
    return Action("refused")


def advance(state: State, config: DeployConfig, observed: Observed, target: SlotName) -> Action:
    """Bring the desired release up in the idle slot, prove it, let traffic in as the strategy says."""
    slot, watched = state.slots[target], state.weight
    if slot is None or slot.release != state.desired or target not in observed.alive:
        return bring_up(state, config, observed, target)
    missing = next_proof(state, config, slot)
    if missing:
        return Action("prove", target, proof=missing)
    if watched and state.analysed != watched:
        return Action("analyse", target, weight=watched)
    steps = config.strategy.steps if isinstance(config.strategy, Canary) and state.active in observed.alive and not state.rollback else []
    shares = [step for step in steps if watched < step < 100]
    if shares:
        return Action("step", target, weight=shares[0])
    return Action("switch", target) if may_take_all(state, config) else Action("await_promotion", target)


def bring_up(state: State, config: DeployConfig, observed: Observed, target: SlotName) -> Action:
    """Room first, then a start in an empty slot; a candidate that keeps dying is refused."""
    slot = state.slots[target]
    if slot and slot.release == state.desired and strikes(state, config, observed, state.desired) >= config.supervision.strikes:
        return Action("refuse", target, why=f"{state.desired}: {struck_out(config)} before it could take traffic")
    if slot:
        return Action("stop", target)
    if state.capacity is None:
        return Action("measure", target, release=state.desired)
    if state.capacity == "swap" and state.active in observed.alive and state.active:
        # Nothing serves once it has begun, so that the promotion is asked for before.
        return Action("queue", state.active) if may_take_all(state, config) else Action("await_promotion", target)
    return Action("start", target, release=state.desired)


def next_proof(state: State, config: DeployConfig, slot: SlotState) -> str | None:
    """The shadow comes last, where there is something to copy from, and not when going back."""
    shadow = ("shadow",) if isinstance(config.strategy, ShadowFirst) and state.active and not state.rollback else ()
    return next((proof for proof in (*PROOF, *shadow) if proof not in slot.proofs), None)


def may_take_all(state: State, config: DeployConfig) -> bool:
    return config.promotion == "auto" or state.rollback or state.promoted == state.desired


def swap(state: State, config: DeployConfig, observed: Observed, leaving: SlotName) -> Action:
    """No room for two: the door queues, what served is stopped, its heir starts and is proven; if it fails, what served starts again."""
    target, before = other(leaving), str(state.ledger["release"])
    heir, here = state.slots[target], state.slots[leaving]
    if state.refused is None and state.desired not in (None, before):
        if heir and heir.crashed:
            return Action("refuse", target, why=f"{heir.release}: its server died while requests waited")
        if here:
            return Action("stop", leaving)
        if heir is None or target not in observed.alive or heir.release != state.desired:
            return Action("stop", target) if heir else Action("start", target, release=state.desired)
        missing = [proof for proof in PROOF if proof not in heir.proofs]
        return Action("prove", target, proof=missing[0]) if missing else Action("switch", target)
    if heir:
        return Action("stop", target)
    if here is None or leaving not in observed.alive:
        return start_again(state, config, observed, leaving, before) or Action("start", leaving, release=before)
    return Action("switch", leaving) if "healthy" in here.proofs else Action("prove", leaving, proof="healthy")
