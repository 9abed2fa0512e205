"""Which of HAProxy's servers leads to which pod: pure. What is so is read from HAProxy itself, so nothing has to be
remembered; what differs is changed, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from configs.slots import SLOTS, SlotName, other
from infra.haproxy.servers import ServerState, set_place
from infra.kubernetes.pods import Pod
from infra.kubernetes.probe import PORT

States = Mapping[tuple[str, str], ServerState]
Use = Literal["up", "drain"]


@dataclass
class Assignment:
    """`commands`: for HAProxy's admin socket, in this order. `places`: of the servers that get new requests, by name;
    `homeless`: pods that found no room."""

    commands: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    homeless: list[str] = field(default_factory=list)


def assign(
    pods: Iterable[Pod],
    releases: Mapping[SlotName, str],
    names: Mapping[SlotName, Sequence[str]],
    seen: States,
    standbys: Collection[SlotName],
) -> Assignment:
    """`releases`: by slot, the label of the release that it holds: a pod of another one gets no request. `names`: of
    each slot's servers, `seen`: all of them."""
    found, every = Assignment(), list(pods)
    for slot in SLOTS:
        assign_slot(slot, uses_of(every, slot, releases.get(slot)), names[slot], seen, slot in standbys, found)
    return found


def uses_of(pods: Iterable[Pod], slot: SlotName, release: str | None) -> dict[str, Use]:
    """By place. An address is given again: then the pod that is up counts."""
    ours = [pod for pod in pods if pod.slot == slot and pod.address]
    up = {place_of(pod) for pod in ours if pod.ready and not pod.ending and pod.release == release}
    return {place_of(pod): "up" if place_of(pod) in up else "drain" for pod in ours}


def place_of(pod: Pod) -> str:
    return f"{pod.address}:{PORT}"


def assign_slot(
    slot: SlotName, uses: Mapping[str, Use], names: Sequence[str], seen: States, is_standby: bool, found: Assignment
) -> None:
    """A pod keeps its server. A new one gets one that leads nowhere, else one that a pod which ends still has: what is
    open there goes on."""
    held: dict[str, str] = {}  # by place: its server
    for name in names:
        state = seen[slot, name]
        if not state.is_out and state.place in uses:
            held.setdefault(state.place, name)
    kept = {place: name for place, name in held.items() if uses[place] == "up"}
    leaving = {place: name for place, name in held.items() if uses[place] == "drain"}
    held_names = {*held.values()}
    free = {name: seen[slot, name].place for name in names if name not in held_names}
    coming = [place for place, use in sorted(uses.items()) if use == "up" and place not in kept]
    new = {*coming}
    returned = {place: name for name, place in free.items() if place in new}
    others = iter([*(name for name in free if returned.get(free[name]) != name), *leaving.values()])
    for place in coming:
        room = returned.get(place) or next(others, None)
        if room is None:
            found.homeless.append(place)
        else:
            kept[place] = room
    used = {name: place for place, name in leaving.items()} | {name: place for place, name in kept.items()}
    for name in names:
        found.commands += commands(slot, name, used.get(name), uses, seen, is_standby)
    found.places |= {name: place for place, name in kept.items()}


def commands(
    slot: SlotName, name: str, place: str | None, uses: Mapping[str, Use], seen: States, is_standby: bool
) -> list[str]:
    """For one server, in its own slot's backend and in the other's, where it is a backup that follows."""
    state, backup = seen[slot, name], seen[other(slot), name]
    is_draining = place is not None and uses[place] == "drain"
    target = ServerState(place or state.place, is_out=place is None, is_draining=is_draining)
    word = "maint" if target.is_out else "drain" if target.is_draining else "ready"
    found = [
        set_place(backend, name, target.place)
        for backend, one in ((slot, state), (other(slot), backup))
        if one.place != target.place
    ]
    if (state.is_out, state.is_draining) != (target.is_out, target.is_draining):
        found.append(f"set server {slot}/{name} state {word}")
    if (backup.is_out, backup.is_draining) != (not is_standby, False):
        found.append(f"set server {other(slot)}/{name} state {'ready' if is_standby else 'maint'}")
    return found
