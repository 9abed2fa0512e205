"""Servers for pods: however it came to be, what HAProxy is told makes it lead to the pods that are, and to no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.slots import SLOTS, SlotName, other
from infra.haproxy.servers import NOWHERE, ServerState, server_names
from infra.kubernetes.pods import Pod
from infra.kubernetes.probe import PORT
from infra.router_pods.assign import Assignment, assign, place_of

pytestmark = pytest.mark.unit
RELEASES: dict[SlotName, str] = {"blue": "b", "green": "a"}
ROOM = 4


class HAProxy:
    """What its admin socket would say: commands are done, and remembered."""

    def __init__(self, room: int = ROOM) -> None:
        self.names: dict[SlotName, list[str]] = {slot: server_names(slot, room) for slot in SLOTS}
        self.states: dict[tuple[str, str], ServerState] = {
            (backend, name): ServerState(NOWHERE, is_out=True)
            for backend in SLOTS
            for slot in SLOTS
            for name in self.names[slot]
        }
        self.told: list[str] = []

    def do(self, commands: list[str]) -> None:
        self.told = commands
        for command in commands:
            _, _, server, what, value, *rest = command.split()
            backend, _, name = server.partition("/")
            before = self.states[backend, name]
            if what == "addr":
                self.states[backend, name] = before._replace(place=f"{value}:{rest[1]}")
            else:
                self.states[backend, name] = before._replace(is_out=value == "maint", is_draining=value == "drain")

    def lead(self, pods: list[Pod], standbys: Any = (), releases: dict[SlotName, str] = RELEASES) -> Assignment:
        found = assign(pods, releases, self.names, self.states, standbys)
        self.do(found.commands)
        return found

    def places(self, slot: SlotName, *, draining: bool = False) -> list[str]:
        return [
            self.states[slot, name].place
            for name in self.names[slot]
            if not self.states[slot, name].is_out and self.states[slot, name].is_draining == draining
        ]


def pod(number: int, slot: SlotName = "blue", **facts: Any) -> Pod:
    return Pod(f"u{number}", f"p{number}", f"10.0.0.{number}", slot, RELEASES[slot], True)._replace(**facts)


def test_a_ready_pod_of_the_slots_release_gets_requests_and_one_of_another_does_not() -> None:
    haproxy = HAProxy()
    haproxy.lead([pod(1), pod(2, release="old"), pod(3, ready=False), pod(4, address=""), pod(5, "green")])
    assert haproxy.places("blue") == ["10.0.0.1:8000"] and haproxy.places("green") == ["10.0.0.5:8000"]
    assert not haproxy.places("blue", draining=True)


@pytest.mark.parametrize("facts", [{"ending": True}, {"ready": False}, {"release": "old"}])
def test_one_that_had_requests_and_may_get_no_more_keeps_those_that_are_open(facts: dict[str, Any]) -> None:
    haproxy = HAProxy()
    haproxy.lead([pod(1), pod(2)])
    haproxy.lead([pod(1, **facts), pod(2)])
    assert haproxy.places("blue", draining=True) == ["10.0.0.1:8000"] and haproxy.places("blue") == ["10.0.0.2:8000"]
    haproxy.lead([pod(2)])
    assert not haproxy.places("blue", draining=True)


def test_a_pod_keeps_its_server_and_what_does_not_change_is_not_told_again() -> None:
    haproxy = HAProxy()
    haproxy.lead([pod(2), pod(3)], standbys={"blue"})
    haproxy.lead([pod(1), pod(2), pod(3)], standbys={"blue"})
    first = haproxy.told
    assert all("10.0.0.1" in command or "blue-3" in command for command in first) and len(first) == 3
    assert haproxy.lead([pod(1), pod(2), pod(3)], standbys={"blue"}).commands == []


def test_a_router_that_starts_anew_finds_from_haproxy_itself_which_pod_is_where() -> None:
    haproxy = HAProxy()
    haproxy.lead([pod(1), pod(2), pod(3)])
    haproxy.lead([pod(2), pod(3)])
    before = dict(haproxy.states)
    assert haproxy.lead([pod(2), pod(3)]).places == {"blue-2": "10.0.0.2:8000", "blue-3": "10.0.0.3:8000"}
    assert haproxy.states == before


def test_where_there_is_no_room_a_pod_that_ends_gives_its_server_up_and_one_that_is_up_never() -> None:
    haproxy = HAProxy(2)
    haproxy.lead([pod(1), pod(2)])
    found = haproxy.lead([pod(1, ending=True), pod(2), pod(3)])
    assert haproxy.places("blue") == ["10.0.0.3:8000", "10.0.0.2:8000"] and not found.homeless
    assert haproxy.lead([pod(2), pod(3), pod(4)]).homeless == ["10.0.0.4:8000"]


def test_what_a_hand_changed_is_put_right() -> None:
    haproxy = HAProxy()
    haproxy.lead([pod(1), pod(2, "green")], standbys={"green"})
    good = dict(haproxy.states)
    haproxy.do(["set server blue/blue state maint", "set server blue/green state maint"])
    haproxy.lead([pod(1), pod(2, "green")], standbys={"green"})
    assert haproxy.states == good
    haproxy.do(["set server green/green addr 10.9.9.9 port 1", "set server green/green-2 state ready"])
    haproxy.lead([pod(1), pod(2, "green")], standbys={"green"})
    assert haproxy.places("green") == ["10.0.0.2:8000"]


numbers = st.integers(1, 6)
pods = st.builds(
    lambda number, slot, facts: pod(number, slot, **facts),
    numbers,
    st.sampled_from(SLOTS),
    st.fixed_dictionaries(
        {}, optional={"ready": st.booleans(), "ending": st.booleans(), "release": st.sampled_from("abc")}
    ),
)
worlds = st.lists(pods, max_size=8, unique_by=lambda one: one.uid)
standbys = st.sets(st.sampled_from(SLOTS))
by_hand = st.tuples(
    st.sampled_from(SLOTS),
    st.sampled_from([name for slot in SLOTS for name in server_names(slot, ROOM)]),
    st.sampled_from(["state maint", "state ready", "state drain", "addr 10.0.0.3 port 8000", "addr 10.9.9.9 port 1"]),
)


@given(st.lists(st.tuples(worlds, standbys, st.lists(by_hand, max_size=3)), min_size=1, max_size=6))
def test_any_history_converges_in_one_look(history: list[tuple[list[Pod], set[SlotName], list[Any]]]) -> None:
    haproxy = HAProxy()
    for world, chosen, hands in history:
        haproxy.do([f"set server {backend}/{name} {change}" for backend, name, change in hands])
        found = haproxy.lead(world, chosen)
        for slot in SLOTS:
            up = {place_of(one) for one in world if one.slot == slot and one.release == RELEASES[slot]} & {
                place_of(one) for one in world if one.ready and not one.ending
            }
            there = {place_of(one) for one in world if one.slot == slot}
            given_up = haproxy.places(slot)
            assert len(given_up) == len(set(given_up)), "never one pod on two servers"
            assert set(given_up) == up - set(found.homeless), "all of them, and no other"
            assert len(up) <= ROOM or len(given_up) == ROOM, "nobody is left out while there is room"
            assert set(haproxy.places(slot, draining=True)) <= there - up
            for name in haproxy.names[slot]:
                own, backup = haproxy.states[slot, name], haproxy.states[other(slot), name]
                assert backup.place == own.place and backup.is_out == (slot not in chosen) and not backup.is_draining
        assert haproxy.lead(world, chosen).commands == []


@given(worlds, worlds)
def test_an_open_stream_is_never_on_a_server_that_was_taken_out_while_its_pod_is_there(
    before: list[Pod], after: list[Pod]
) -> None:
    haproxy = HAProxy(8)
    haproxy.lead(before)
    serving = {slot: haproxy.places(slot) for slot in SLOTS}
    haproxy.lead(after)
    for slot in SLOTS:
        there = {place_of(one) for one in after if one.slot == slot}
        kept = {*haproxy.places(slot), *haproxy.places(slot, draining=True)}
        assert there & {*serving[slot]} <= kept


def test_a_thousand_pods_are_told_once() -> None:
    haproxy = HAProxy(1251)
    every = [Pod(f"u{n}", f"p{n}", f"10.1.{n // 250}.{n % 250}", "blue", "b", True) for n in range(1000)]
    assert len(haproxy.lead(every).places) == 1000
    assert len(haproxy.lead(every[1:]).commands) == 1
    assert all(str(PORT) in place for place in haproxy.places("blue"))
