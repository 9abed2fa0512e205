"""What to do next. Pure: a state, what was observed and the environment's wishes in, one action out. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs.deploy import DeployConfig
from infra.router import SlotName
from serve.record import PROOF, State, other

ActionKind = Literal["open_door", "start", "prove", "await_promotion", "switch", "bake", "stop", "refused", "done"]


@dataclass(frozen=True)
class Observed:
    """The world now: whether the router runs, where it sends new requests, which recorded processes live."""

    door_open: bool
    routed: SlotName | None
    alive: frozenset[SlotName]


@dataclass(frozen=True)
class Action:
    """`release` is what to start in `slot`; `proof` is the next thing that `slot` must show."""

    kind: ActionKind
    slot: SlotName | None = None
    release: str | None = None
    proof: str | None = None


def plan(state: State, config: DeployConfig, observed: Observed) -> Action:
    """The one next action towards the desired release. What serves is never stopped, nor left before its heir is proven."""
    if not observed.door_open:
        return Action("open_door")
    if state.switching:
        back = state.active if state.switching not in observed.alive and state.active in observed.alive else None
        return Action("switch", back or state.switching)
    if state.active:
        repair = keep_serving(state, observed, state.active)
        if repair:
            return repair
    if state.refused is not None:
        return clear_refused(state)
    if state.desired is None:
        return Action("done")
    if state.active and state.release_of(state.active) == state.desired:
        return settle(state, config, observed, state.active)
    return advance(state, config, observed, other(state.active) if state.active else "blue")


def keep_serving(state: State, observed: Observed, active: SlotName) -> Action | None:
    """First of all duties: a dead server's proven heir takes over at once, else the same release starts again in place."""
    if active not in observed.alive:
        heir = state.slots[other(active)]
        if heir and other(active) in observed.alive and heir.proofs.issuperset(PROOF):
            return Action("switch", other(active))
        return Action("start", active, release=state.release_of(active))
    here = state.slots[active]
    if here and "healthy" not in here.proofs:
        return Action("prove", active, proof="healthy")
    return Action("switch", active) if observed.routed != active else None


def settle(state: State, config: DeployConfig, observed: Observed, active: SlotName) -> Action:
    """The desired release serves: bake it, then retire the old slot unless it is to stay warm."""
    if not state.baked and not state.rollback:
        return Action("bake", active)
    old = other(active)
    slot = state.slots[old]
    if slot and (not config.keep_old_slot or old not in observed.alive or slot.release == state.failed):
        return Action("stop", old)
    return Action("done", active)


def clear_refused(state: State) -> Action:
    """A refused release leaves no process behind; what served serves on."""
    for name, slot in state.slots.items():
        if slot and name != state.active and slot.release == state.desired:
            return Action("stop", name)
    return Action("refused")


def advance(state: State, config: DeployConfig, observed: Observed, target: SlotName) -> Action:
    """Bring the desired release up in the idle slot, prove it, switch."""
    slot = state.slots[target]
    if slot is None:
        return Action("start", target, release=state.desired)
    if slot.release != state.desired or target not in observed.alive:
        return Action("stop", target)
    missing = [proof for proof in PROOF if proof not in slot.proofs]
    if missing:
        return Action("prove", target, proof=missing[0])
    if config.promotion == "manual" and not state.rollback and state.promoted != state.desired:
        return Action("await_promotion", target)
    return Action("switch", target)
