"""Where Prometheus is sent: the router, and every server of both slots, once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from serve.exporter.targets import targets_of
from serve.record.event import Event
from serve.record.fold import apply
from serve.record.state import State

pytestmark = pytest.mark.unit
RELEASE = "calls@sha256:" + "1" * 64


def config(servers: int = 1, **facts: Any) -> DeployConfig:
    settings = {"name": "shop", "model": "m", "gate": None, "slots": {"servers": servers}}
    return DeployConfig.model_validate(settings | facts)


def folded(*events: tuple[str, str, dict[str, Any]]) -> State:
    state = State()
    for kind, slot, facts in events:
        state = apply(state, Event.model_validate({"at": "2026-11-28", "kind": kind, "slot": slot, "facts": facts}))
    return state


def started(slot: str, port: int, **facts: Any) -> tuple[str, str, dict[str, Any]]:
    return "started", slot, {"pid": 1, "boot": "b", "ticks": 1, "port": port, "log": "x", **facts}


def ports(config: DeployConfig, state: State) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in targets_of(config, state):
        found.setdefault(one["labels"].get("server", one["labels"]["job"]), []).extend(one["targets"])
    return found


def test_before_anything_runs_it_is_what_the_yaml_says_and_each_bears_its_environment() -> None:
    found = targets_of(config(2, router={"metrics_port": 8405}), State())
    assert found[0] == {"targets": ["127.0.0.1:8405"], "labels": {"environment": "shop", "job": "router"}}
    assert [(one["targets"], one["labels"]["slot"], one["labels"]["server"]) for one in found[1:]] == [
        (["127.0.0.1:8101"], "blue", "blue"),
        (["127.0.0.1:8103"], "blue", "blue-2"),
        (["127.0.0.1:8102"], "green", "green"),
        (["127.0.0.1:8104"], "green", "green-2"),
    ]
    assert {one["labels"]["environment"] for one in found} == {"shop"}
    assert all("release" not in one["labels"] for one in found)


def test_what_runs_is_asked_where_it_was_started_under_the_name_of_its_release() -> None:
    state = folded(("starting", "blue", {"release": RELEASE}), started("blue", 9001))
    (blue, green) = targets_of(config(), state)
    assert blue["targets"] == ["127.0.0.1:9001"] and blue["labels"]["release"] == "calls@" + "1" * 12
    assert green["targets"] == ["127.0.0.1:8102"] and "release" not in green["labels"]


def test_a_server_that_both_slots_live_in_is_asked_once() -> None:
    state = folded(
        ("starting", "blue", {"release": RELEASE}),
        started("blue", 8101),
        ("starting", "green", {"release": RELEASE}),
        started("green", 8101, prefix="/slots/green/x"),
    )
    assert ports(config(capacity="adapter"), state) == {"blue": ["127.0.0.1:8101"]}


def test_a_slot_is_not_asked_at_a_port_that_the_other_one_has_taken() -> None:
    state = folded(("starting", "green", {"release": RELEASE}), started("green", 8101))
    assert ports(config(capacity="adapter"), state) == {"green": ["127.0.0.1:8101"]}


@given(st.integers(1, 16), st.integers(0, 15), st.booleans())
def test_no_server_is_asked_twice(servers: int, number: int, with_router: bool) -> None:
    named = {"server": number} if number else {}
    state = folded(
        ("starting", "blue", {"release": RELEASE, "servers": 16}), started("blue", 8101 + 2 * number, **named)
    )
    settings = config(servers, router={"metrics_port": 9999} if with_router else {})
    found = [address for one in targets_of(settings, state) for address in one["targets"]]
    assert len(set(found)) == len(found) >= 2 * servers + with_router
