"""Which GPUs each server of the two slots gets, and what share of their memory. Pure: infra/nvml.py says what is there.

vLLM takes `gpu_memory_utilization` of a GPU's whole memory, whatever else runs there, and does not start where less is
free (vllm/v1/worker/utils.py, request_memory). So servers that share a GPU share its memory by these shares, and they
start in any order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

from configs.slots import SLOTS, SlotName
from infra.nvml import BESIDE_GIB, USUAL_SHARE

MOST_SHARE = USUAL_SHARE  # where a server is alone
Mode = Literal["own", "shared", "sleep", "swap"]


class Gpu(NamedTuple):
    """What a server may be given: a GPU, or an instance of one (MIG). `usable_gib`: without what others hold there;
    `linked`: GPUs with the same are linked with each other, so that layers may be split over them."""

    uuid: str
    total_gib: float
    usable_gib: float
    linked: str = ""
    is_instance: bool = False


@dataclass(frozen=True)
class Need:
    """Of one server, GiB: `each` on each of its `width` GPUs."""

    weights: float
    cache: float
    activations: float
    width: int = 1

    @property
    def each(self) -> float:
        return (self.weights + self.cache) / self.width + self.activations

    def __str__(self) -> str:
        split = f"({self.weights:.1f} weights + {self.cache:.1f} key-value cache) / {self.width} GPUs"
        plain = f"{self.weights:.1f} weights + {self.cache:.1f} key-value cache"
        return f"{split if self.width > 1 else plain} + {self.activations:.1f} activations = {self.each:.1f} GiB"


class Place(NamedTuple):
    """Of one server."""

    gpus: tuple[str, ...]
    utilization: float


class Plan(NamedTuple):
    """By slot its servers' places; `mode`: how the two slots share what is there."""

    mode: Mode
    slots: dict[SlotName, list[Place]]


# By slot and number, the servers that are to have a place.
Servers = Sequence[tuple[SlotName, int]]
# A place for each of them, on these GPUs; None where there is no way at all to place them.
Choose = Callable[[Sequence[Gpu], Servers], list[Place] | None]


def plan_slots(gpus: Sequence[Gpu], need: Need, servers: int, host_gib: float, choose: Choose) -> Plan | None:
    """Both slots of `servers` each, in the order of what a switch costs: on GPUs of their own; sharing the memory of
    some; one asleep while the other serves, its weights in the host's memory (`host_gib` free); one in place of the
    other. None where not even one slot fits."""
    of_slot: dict[SlotName, Servers] = {slot: [(slot, number) for number in range(servers)] for slot in SLOTS}
    both = choose(gpus, [*of_slot["blue"], *of_slot["green"]])
    if both is not None:
        used = [uuid for place in both for uuid in place.gpus]
        mode: Mode = "own" if len(used) == len(set(used)) else "shared"
        return Plan(mode, {"blue": both[:servers], "green": both[servers:]})
    asleep = host_gib >= need.weights * servers
    left = with_sleepers(gpus) if asleep else gpus
    one = {slot: choose(left, of_slot[slot]) for slot in SLOTS}
    if asleep and not all(one.values()):
        asleep, one = False, {slot: choose(gpus, of_slot[slot]) for slot in SLOTS}
    found = {slot: places for slot, places in one.items() if places}
    return Plan("sleep" if asleep else "swap", found) if len(found) == len(SLOTS) else None


def with_sleepers(gpus: Sequence[Gpu]) -> list[Gpu]:
    """A sleeper keeps its CUDA context."""
    return [one._replace(usable_gib=one.usable_gib - BESIDE_GIB) for one in gpus]


def anywhere(need: Need) -> Choose:
    """Wherever there is room (`slots.devices: auto`)."""
    return lambda gpus, servers: assign(gpus, need, len(servers))


def assign(gpus: Sequence[Gpu], need: Need, count: int) -> list[Place] | None:
    found = [group for kind in kinds_of(gpus, need.width) for group in groups_of(kind, need, count)]
    return share(emptiest(found)[:count], need) if len(found) >= count else None


def listed(lists: Mapping[tuple[SlotName, int], Sequence[str]], need: Need) -> Choose:
    """On the GPUs of their lists, by UUID, and no others."""

    def choose(gpus: Sequence[Gpu], servers: Servers) -> list[Place] | None:
        known = {one.uuid: one for one in gpus}
        return share([tuple(known[uuid] for uuid in lists[server]) for server in servers], need)

    return choose


def share(groups: Sequence[tuple[Gpu, ...]], need: Need) -> list[Place] | None:
    """Of each GPU's memory: what each server needs at least, and an equal part of what is left. A server asks the same
    share of all of its GPUs, be they of different sizes. None where one is too full."""
    guests = Counter(one.uuid for group in groups for one in group)
    left = {one.uuid: one.usable_gib - BESIDE_GIB * guests[one.uuid] for group in groups for one in group}
    least = [max(math.ceil(1000 * need.each / one.total_gib) / 1000 for one in group) for group in groups]
    for group, part in zip(groups, least, strict=True):
        for one in group:
            left[one.uuid] -= part * one.total_gib
    if any(gib < 0 for gib in left.values()):
        return None
    places = []
    for group, part in zip(groups, least, strict=True):
        more = min(left[one.uuid] / guests[one.uuid] / one.total_gib for one in group)
        most = math.floor(1000 * (part + more) + 1e-6) / 1000
        places.append(Place(tuple(one.uuid for one in group), max(part, min(MOST_SHARE, most))))
    return places


def emptiest(groups: list[tuple[Gpu, ...]]) -> list[tuple[Gpu, ...]]:
    """Those first on whose GPUs nobody is yet, whatever kind of GPU it is."""
    guests, levels = Counter[str](), []
    for group in groups:
        levels.append(max(guests[one.uuid] for one in group))
        guests.update(one.uuid for one in group)
    return [group for _, group in sorted(zip(levels, groups, strict=True), key=lambda found: found[0])]


def kinds_of(gpus: Sequence[Gpu], width: int) -> list[list[Gpu]]:
    """GPUs that one server may be spread over: linked, and of one size, for a server asks the same share of each. An
    instance of a GPU is linked with none."""
    if width == 1:
        return [[*gpus]]

    def kind(one: Gpu) -> tuple[float, str]:
        return -one.total_gib, one.linked

    able = sorted((one for one in gpus if not one.is_instance), key=kind)
    return [[*found] for _, found in groupby(able, key=kind)]


def groups_of(gpus: list[Gpu], need: Need, count: int) -> list[tuple[Gpu, ...]]:
    """As many groups of `need.width` different GPUs as there are, `count` at most.

    k groups exist if and only if the GPUs' capacities, none counted above k, come to k times the width; then taking
    those with the most room left each time finds them (Gale 1957, Ryser 1957: degree sequences of bipartite graphs).
    """
    room = {one: capacity(one, need) for one in gpus}
    most = next((k for k in range(count, 0, -1) if sum(min(k, left) for left in room.values()) >= k * need.width), 0)
    return spread_first(dict(room), need.width, most) or fullest_first(room, need.width, most)


def capacity(gpu: Gpu, need: Need) -> int:
    """How many servers its memory holds, each with its share (a thousandth is lost where it is rounded) and what it
    takes beside it."""
    return max(0, int(gpu.usable_gib // (need.each + BESIDE_GIB + gpu.total_gib / 1000)))


def spread_first(room: dict[Gpu, int], width: int, count: int) -> list[tuple[Gpu, ...]] | None:
    """GPUs that nobody has yet come first: a server alone on a GPU has all of it. None where that leaves too few."""
    guests, groups = dict.fromkeys(room, 0), []
    for _ in range(count):
        free = sorted((one for one in room if room[one]), key=lambda one: (guests[one], -room[one], one.uuid))[:width]
        if len(free) < width:
            return None
        for one in free:
            room[one], guests[one] = room[one] - 1, guests[one] + 1
        groups.append(tuple(free))
    return groups


def fullest_first(room: dict[Gpu, int], width: int, count: int) -> list[tuple[Gpu, ...]]:
    room, groups = {one: min(left, count) for one, left in room.items()}, []
    for _ in range(count):
        group = tuple(sorted(room, key=lambda one: (-room[one], one.uuid))[:width])
        for one in group:
            room[one] -= 1
        groups.append(group)
    return groups
