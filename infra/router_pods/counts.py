"""What became of requests and streams, summed over routers that come and go: a router's counts are kept by its
identity, as they were last seen, so that no sum ever falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from typing_extensions import TypedDict

from configs.slots import SLOTS, SlotName
from infra.haproxy.servers import Traffic

MOST_GONE = 64  # that are kept apart, in case one was only out of sight


class RouterCounts(TypedDict):
    """Of one HAProxy since its start. `id`: UID/START, of the pod and of its HAProxy; `final`: it ends, and every
    stream has; `uncounted`: processes whose streams are in no count; `held`: requests that wait for a server
    now."""

    id: str
    final: bool
    traffic: dict[SlotName, dict[str, int]]
    unanswered: int
    uncounted: int
    held: dict[SlotName, int]


class KeptCounts(TypedDict):
    """`routers`: by id; `gone`: those of them that are no more, oldest first; `ended`: the sum of those before them."""

    routers: dict[str, RouterCounts]
    gone: list[str]
    ended: RouterCounts


NOTHING: RouterCounts = {"id": "", "final": True, "traffic": {}, "unanswered": 0, "uncounted": 0, "held": {}}


def no_counts() -> KeptCounts:
    return {"routers": {}, "gone": [], "ended": NOTHING}


def folded(kept: KeptCounts, seen: Iterable[RouterCounts], present: Collection[str]) -> KeptCounts:
    """`seen`: of those that answered; `present`: uids of all that are there. Who is there and silent stays as it was
    last seen."""
    fresh = {one["id"]: one for one in seen}
    routers = kept["routers"] | fresh
    newest = {uid_of(name): name for name in [*kept["routers"], *fresh]}
    gone = [name for name in routers if uid_of(name) not in present or newest[uid_of(name)] != name]
    gone.sort(key=lambda name: kept["gone"].index(name) if name in kept["gone"] else len(kept["gone"]))
    too_many = gone[: max(0, len(gone) - MOST_GONE)]
    ended = summed([kept["ended"], *(last_of(routers[name]) for name in too_many)])
    return {
        "routers": {name: one for name, one in routers.items() if name not in too_many},
        "gone": [name for name in gone if name not in too_many],
        "ended": ended,
    }


def total(kept: KeptCounts) -> RouterCounts:
    every = [last_of(one) if name in kept["gone"] else one for name, one in kept["routers"].items()]
    return summed([kept["ended"], *every])


def uid_of(name: str) -> str:
    return name.partition("/")[0]


def last_of(one: RouterCounts) -> RouterCounts:
    """Of a router that is gone: what nobody saw end was cut."""
    traffic = {
        slot: row | {"open": 0, "cut_by_server": row["cut_by_server"] + row["open"]}
        for slot, row in one["traffic"].items()
    }
    return {**one, "traffic": traffic, "uncounted": 0, "held": {}}


def summed(every: Iterable[RouterCounts]) -> RouterCounts:
    sums: dict[SlotName, Counter[str]] = {slot: Counter() for slot in SLOTS}
    held = Counter[SlotName]()
    unanswered = uncounted = 0
    for one in every:
        for slot, row in one["traffic"].items():
            sums[slot].update(row)
        held.update(one["held"])
        unanswered, uncounted = unanswered + one["unanswered"], uncounted + one["uncounted"]
    return {
        "id": "",
        "final": True,
        "traffic": {slot: dict(one) for slot, one in sums.items()},
        "unanswered": unanswered,
        "uncounted": uncounted,
        "held": dict(held),
    }


def traffic_in(counts: RouterCounts) -> dict[SlotName, Traffic]:
    return {slot: as_traffic(counts["traffic"].get(slot, {})) for slot in SLOTS}


def as_traffic(row: Mapping[str, int]) -> Traffic:
    return Traffic(**{name: row.get(name, 0) for name in Traffic.__dataclass_fields__})
