"""Places on GPUs: what the plan admits starts on the simulated machine in any order, and what it refuses has no
assignment at all."""

from __future__ import annotations

import random
from functools import cache
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from configs.slots import SLOTS, SlotName
from infra.nvml import BESIDE_GIB
from serve.plan.devices import (
    Gpu,
    Need,
    Place,
    Plan,
    anywhere,
    assign,
    capacity,
    kinds_of,
    listed,
    plan_slots,
)  # fmt: skip

pytestmark = pytest.mark.unit
SIZES = (24.0, 48.0, 80.0)


def gpu(number: int, total: float = 80.0, held: float = 0.0, linked: str = "a") -> Gpu:
    return Gpu(f"GPU-{number}", total, total - held, linked)


def instance(number: int, total: float = 20.0) -> Gpu:
    return Gpu(f"MIG-{number}", total, total, is_instance=True)


class Machine:
    """As vLLM has it: a server asks for its share of each GPU's whole memory, and does not start where less is free;
    then it has that, and its context beside it."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self.total = {one.uuid: one.total_gib for one in gpus}
        self.free = {one.uuid: one.usable_gib for one in gpus}

    def starts(self, place: Place, need: Need) -> bool:
        asked = {uuid: place.utilization * self.total[uuid] for uuid in place.gpus}
        if any(asked[uuid] > self.free[uuid] + 1e-9 or asked[uuid] < need.each - 1e-9 for uuid in asked):
            return False
        for uuid, gib in asked.items():
            self.free[uuid] -= gib + BESIDE_GIB
        return all(free > -1e-6 for free in self.free.values())


@st.composite
def machines(draw: st.DrawFn) -> list[Gpu]:
    count = draw(st.sampled_from([1, 2, 4, 8]))
    if draw(st.booleans()) and count <= 4:
        return [instance(number, draw(st.sampled_from([10.0, 20.0, 40.0]))) for number in range(count)]
    sizes = (
        [draw(st.sampled_from(SIZES))] * count
        if draw(st.booleans())
        else [draw(st.sampled_from(SIZES)) for _ in range(count)]
    )
    links = st.sampled_from(["a", "b"]) if draw(st.booleans()) else st.just("a")
    return [
        gpu(number, total, draw(st.sampled_from([0.0, 0.0, 3.0, 0.6 * total])), draw(links))
        for number, total in enumerate(sizes)
    ]


NEEDS = st.builds(
    Need,
    weights=st.sampled_from([0.3, 2.0, 6.0, 16.0, 64.0, 140.0]),
    cache=st.sampled_from([0.5, 4.0, 16.0]),
    activations=st.sampled_from([0.5, 2.0]),
    width=st.sampled_from([1, 1, 2, 4]),
)


def places_of(plan: Plan) -> list[Place]:
    """Those that hold memory at the same time."""
    return [*plan.slots["blue"], *(plan.slots["green"] if plan.mode in ("own", "shared") else [])]


@settings(max_examples=400, deadline=None)
@given(machines(), NEEDS, st.integers(1, 3), st.integers(0, 10**6))
def test_what_is_admitted_starts_in_any_order(gpus: list[Gpu], need: Need, servers: int, seed: int) -> None:
    plan = plan_slots(gpus, need, servers, 500, anywhere(need))
    assume(plan is not None)
    assert plan is not None
    assert {slot: len(places) for slot, places in plan.slots.items()} == {"blue": servers, "green": servers}
    places, machine = places_of(plan), Machine(gpus)
    random.Random(seed).shuffle(places)
    for place in places:
        assert len(set(place.gpus)) == need.width
        assert machine.starts(place, need)
    used = [uuid for place in places for uuid in place.gpus]
    assert (len(used) == len(set(used))) or plan.mode != "own"


@settings(max_examples=300, deadline=None)
@given(machines(), NEEDS, st.data())
def test_on_the_gpus_of_lists_both_slots_start_or_take_turns(gpus: list[Gpu], need: Need, data: st.DataObject) -> None:
    """Lists of one slot or of both may name the same GPU."""
    assume(len(gpus) >= need.width)
    named = st.lists(st.sampled_from([one.uuid for one in gpus]), min_size=need.width, max_size=need.width, unique=True)
    lists: dict[tuple[SlotName, int], list[str]] = {(slot, 0): data.draw(named) for slot in SLOTS}
    plan = plan_slots(gpus, need, 1, 500, listed(lists, need))
    known = {one.uuid: one for one in gpus}

    def fits(*slots: SlotName) -> bool:
        """With the smallest share that is enough on the smallest of each server's GPUs, in thousandths."""
        taken = dict.fromkeys(known, 0.0)
        for slot in slots:
            part = max(need.each / known[uuid].total_gib for uuid in lists[slot, 0]) + 0.001
            for uuid in lists[slot, 0]:
                taken[uuid] += part * known[uuid].total_gib + BESIDE_GIB
        return all(gib <= known[uuid].usable_gib for uuid, gib in taken.items())

    assert not fits(*SLOTS) or (plan is not None and plan.mode in ("own", "shared"))
    if plan is None:
        assert not all(fits(slot) for slot in SLOTS)
        return
    machine, places = Machine(gpus), places_of(plan)
    assert {slot: list(plan.slots[slot][0].gpus) for slot in SLOTS} == {slot: lists[slot, 0] for slot in SLOTS}
    assert all(machine.starts(place, need) for place in data.draw(st.permutations(places)))


def is_possible(gpus: list[Gpu], need: Need, count: int) -> bool:
    """By trying everything."""
    groups = [group for kind in kinds_of(gpus, need.width) for group in combinations(kind, need.width)]
    names = [one.uuid for one in gpus]
    sets = sorted({tuple(names.index(one.uuid) for one in group) for group in groups})

    @cache
    def place(room: tuple[int, ...], left: int) -> bool:
        if left == 0:
            return True
        for group in sets:
            if all(room[one] for one in group):
                less = tuple(free - (one in group) for one, free in enumerate(room))
                if place(less, left - 1):
                    return True
        return False

    return place(tuple(min(capacity(one, need), count) for one in gpus), count)


@settings(max_examples=300, deadline=None)
@given(machines(), NEEDS, st.integers(1, 4))
def test_what_is_refused_has_no_assignment_at_all(gpus: list[Gpu], need: Need, count: int) -> None:
    assume(len(gpus) <= 4 or need.width == 1)
    assert (assign(gpus, need, count) is not None) == is_possible(gpus, need, count)


@settings(max_examples=200, deadline=None)
@given(machines(), NEEDS, st.integers(1, 3))
def test_a_server_is_alone_on_its_gpus_where_that_can_be(gpus: list[Gpu], need: Need, servers: int) -> None:
    """One for one: with a width of one GPU it can be wherever enough of them hold a server."""
    assume(need.width == 1 and sum(capacity(one, need) > 0 for one in gpus) >= 2 * servers)
    plan = plan_slots(gpus, need, servers, 0, anywhere(need))
    assert plan is not None and plan.mode == "own"


@settings(max_examples=200, deadline=None)
@given(machines(), NEEDS, st.integers(1, 2), st.randoms())
def test_the_order_in_which_gpus_are_named_changes_no_mode(
    gpus: list[Gpu], need: Need, servers: int, shuffle: random.Random
) -> None:
    plan = plan_slots(gpus, need, servers, 0, anywhere(need))
    again = list(gpus)
    shuffle.shuffle(again)
    found = plan_slots(again, need, servers, 0, anywhere(need))
    assert (plan and plan.mode) == (found and found.mode)


@pytest.mark.parametrize(
    ("gpus", "need", "host_gib", "mode"),
    [
        ([gpu(0), gpu(1)], Need(16, 16, 2), 100, "own"),
        ([gpu(0)], Need(16, 16, 2), 100, "shared"),
        ([gpu(0)], Need(16, 48, 2), 100, "sleep"),
        ([gpu(0)], Need(16, 48, 2), 10, "swap"),
        ([gpu(0)], Need(64, 13, 1), 100, "swap"),
        ([gpu(0)], Need(140, 16, 2), 500, None),
        ([gpu(number) for number in range(8)], Need(140, 40, 2, width=4), 500, "own"),
        ([gpu(number) for number in range(4)], Need(140, 40, 2, width=4), 500, "sleep"),
        ([instance(0), instance(1)], Need(6, 4, 1), 0, "own"),
        ([instance(0), instance(1)], Need(6, 4, 1, width=2), 0, None),
        ([gpu(0, linked="a"), gpu(1, linked="b")], Need(100, 4, 1, width=2), 0, None),
        ([gpu(0), gpu(1, total=24.0)], Need(60, 4, 1, width=2), 0, None),
    ],
    ids=[
        "an 8B on two GPUs",
        "an 8B on one GPU",
        "an 8B with a large cache on one GPU",
        "the same on a host without memory for its weights",
        "so large that a sleeper's context is too much",
        "a 70B on one GPU",
        "a 70B on eight",
        "a 70B on four",
        "an instance of a GPU each",
        "instances are not linked",
        "GPUs that are not linked",
        "GPUs of two sizes",
    ],
)
def test_the_worlds_of_owners(gpus: list[Gpu], need: Need, host_gib: float, mode: str | None) -> None:
    plan = plan_slots(gpus, need, 1, host_gib, anywhere(need))
    assert (plan.mode if plan else None) == mode


def test_what_others_hold_is_left_to_them() -> None:
    need = Need(16, 8, 2)
    (place,) = plan_slots([gpu(0, held=40.0)], need, 1, 0, anywhere(need)).slots["blue"]  # type: ignore[union-attr]
    assert place.utilization * 80 <= 40 - BESIDE_GIB
