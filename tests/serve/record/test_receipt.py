"""The receipt accounts for every stream and request, from counters that only ever grow, or begin again with the
router."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.slots import SLOTS, SlotName, other
from infra.boot import Moment
from infra.haproxy.lost import LostRequests
from infra.haproxy.router import Router
from infra.haproxy.servers import Traffic
from serve.record.environment import Environment
from serve.record.receipt import (
    for_people,
    in_one_line,
    last_receipt,
    lost_of,
    read_receipts,
    receipt,
    receipt_of_rollback,
    since,
    write_receipt,
)
from serve.record.record import Record
from serve.record.state import Moves, SlotState, State, Wanted

pytestmark = pytest.mark.unit
COUNTS = st.integers(0, 1000)
TRAFFIC = st.builds(Traffic, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
AT = "2026-11-25T12:00:00.000+00:00"
NOON = datetime.fromisoformat(AT).timestamp()
ZERO: dict[str, dict[str, int]] = {slot: vars(Traffic(0, 0, 0, 0, 0)) for slot in ("blue", "green")}


def switched(**facts: Any) -> State:
    """Green took over from blue."""
    switch: Any = {
        "from": "blue",
        "from_release": "old",
        "before": ZERO,
        "began_before": ZERO,
        "flip_milliseconds": 1.5,
        "first_request_milliseconds": 2.5,
        "at": AT,
        "began": Moment(NOON - 30),
        "moment": Moment(NOON),
        "streams_open_at_switch": 0,
        "queued_seconds": None,
        "drained_seconds": 0.0,
    }
    slots: dict[SlotName, SlotState | None] = {"blue": SlotState("old"), "green": SlotState("new")}
    return State(active="green", slots=slots, moves=Moves(switch=switch | facts))


def test_of_several_routers_it_says_what_each_took() -> None:
    flips = {"router-a": 4.5, "router-b": 31.0}
    traffic: dict[SlotName, Traffic] = {slot: Traffic(0, 0, 0, 0, 0) for slot in SLOTS}
    found = receipt(switched(flip_milliseconds_by_router=flips), "blue-green", traffic, 1.0, 0.0)
    assert found["flip_milliseconds_by_router"] == flips
    assert "flip_milliseconds_by_router" not in receipt(switched(), "blue-green", traffic, 1.0, 0.0)


@given(
    before=st.tuples(TRAFFIC, TRAFFIC),
    fates=st.lists(st.sampled_from(["completed", "cut", "left", "open"])),
    new=st.tuples(*[COUNTS] * 4),
    failed=COUNTS,
    slot=st.sampled_from(["blue", "green"]),
)
def test_the_receipt_accounts_for_every_stream_of_the_old_slot(
    before: tuple[Traffic, Traffic], fates: list[str], new: tuple[int, int, int, int], failed: int, slot: SlotName
) -> None:
    """Whatever was counted before the switch is none of its business."""
    was = {slot: before[0], other(slot): before[1]}
    old, (total, bad, cut, left) = was[other(slot)], new
    now = {
        slot: Traffic(
            1,
            was[slot].total + total,
            was[slot].failed + bad,
            was[slot].cut_by_server + cut,
            was[slot].left_by_client + left,
        ),
        other(slot): Traffic(
            fates.count("open"),
            old.total,
            old.failed + failed,
            old.cut_by_server + fates.count("cut"),
            old.left_by_client + fates.count("left"),
        ),
    }
    counts = {name: vars(one) for name, one in was.items()}
    state = switched(**{"from": other(slot)}, before=counts, began_before=counts, streams_open_at_switch=len(fates))
    found = receipt(replace(state, active=slot), "blue-green", now, 2.04, 0.0)
    assert found["streams_completed"] == fates.count("completed") and found["streams_still_open"] == fates.count("open")
    assert found["streams_cut"] == fates.count("cut") + cut and found["streams_left_by_client"] == fates.count("left")
    assert (found["requests_since"], found["requests_failed"], found["seconds_watched"]) == (total, bad + failed, 2.0)
    assert found["streams_open_at_flip"] == {name: one.open for name, one in was.items()}


def test_a_canary_counts_its_requests_from_its_first_share_and_its_streams_from_the_flip() -> None:
    flip = {"blue": vars(Traffic(3, 90, 0, 0, 0)), "green": vars(Traffic(1, 10, 0, 0, 0))}
    began = {"blue": vars(Traffic(0, 50, 0, 0, 0)), "green": vars(Traffic(0, 0, 0, 0, 0))}
    now: dict[SlotName, Traffic] = {"blue": Traffic(0, 92, 0, 0, 0), "green": Traffic(4, 30, 0, 0, 0)}
    found = receipt(switched(before=flip, began_before=began, streams_open_at_switch=3), "canary", now, 9, 4.2)
    assert found["requests_by_release"] == {"new": 30, "old": 42} and found["requests_since"] == 20
    assert (found["streams_completed"], found["longest_drain_seconds"], found["strategy"]) == (3, 4.2, "canary")


def test_a_swap_says_how_long_the_router_was_held_and_how_long_blue_drained() -> None:
    now: dict[SlotName, Traffic] = {"blue": Traffic(0, 1, 0, 0, 0), "green": Traffic(0, 7, 0, 0, 0)}
    found = receipt(switched(queued_seconds=8.1, drained_seconds=2.5), "blue-green", now, 1, 0.0)
    assert (found["longest_queue_wait_seconds"], found["longest_drain_seconds"]) == (8.1, 2.5)


@pytest.mark.parametrize(
    ("before", "now", "expected", "words"),
    [(5, 12, 7, ", 7 got no server"), (5, 5, 0, ""), (5, 2, 2, ", 2 got no server"), (None, 12, None, "")],
    ids=["since the switch", "none", "the router started again", "an older record"],
)
def test_requests_that_no_slot_answered_are_in_it(
    before: int | None, now: int, expected: int | None, words: str
) -> None:
    traffic: dict[SlotName, Traffic] = {"blue": Traffic(0, 1, 0, 0, 0), "green": Traffic(0, 7, 0, 0, 0)}
    found = receipt(switched(began_unanswered=before), "blue-green", traffic, 1, 0.0, now)
    assert found["requests_unanswered"] == expected
    assert in_one_line(found).endswith(f"0 requests failed{words}")


def test_a_first_deploy_has_no_one_to_drain() -> None:
    now: dict[SlotName, Traffic] = {"blue": Traffic(5, 9, 0, 0, 0), "green": Traffic(0, 7, 0, 0, 0)}
    found = receipt(switched(**{"from": None, "from_release": None}), "blue-green", now, 1, 0.0)
    assert found["streams_still_open"] == 0 and found["requests_by_release"] == {"new": 7}


@given(before=TRAFFIC, now=TRAFFIC)
def test_a_router_that_was_restarted_in_between_counts_from_zero_and_nothing_is_negative(
    before: Traffic, now: Traffic
) -> None:
    found = since(now, vars(before))
    assert min(vars(found).values()) >= 0 and found.open == now.open
    assert found.total == (now.total - before.total if now.total >= before.total else now.total)


def test_receipts_are_kept_one_a_flip_and_the_last_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    with pytest.raises(RefusedError, match="no deploy has come to its end"):
        last_receipt(env)
    now: dict[SlotName, Traffic] = {"blue": Traffic(0, 0, 0, 0, 0), "green": Traffic(0, 7, 0, 0, 0)}
    for at in (AT, AT, AT.replace("12:", "13:")):
        write_receipt(env, switched(at=at), receipt(switched(at=at), "blue-green", now, 1, 0.0))
    assert [one["at"][11:13] for one in read_receipts(env)] == ["12", "13"] and last_receipt(env)["at"][11:13] == "13"
    assert in_one_line(last_receipt(env)).startswith(
        "2026-11-25T13:00:00  blue-green: 0 streams open at the flip, 0 completed, 0 cut, 0 left by client"
    )


@pytest.mark.parametrize("killed", [False, True])
def test_a_rollbacks_receipt_follows_its_streams_to_their_end_also_where_a_kill_came_before_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    state, open_streams = replace(switched(streams_open_at_switch=2), wanted=Wanted("new", rollback=True)), [2]
    monkeypatch.setattr(Record, "state", lambda record: state)
    monkeypatch.setattr(Router, "is_running", lambda router: True)
    monkeypatch.setattr(Router, "unanswered", lambda router: 0)
    monkeypatch.setattr(
        Router,
        "traffic",
        lambda router: {"blue": Traffic(open_streams[0], 0, 0, 0, 0), "green": Traffic(0, 0, 0, 0, 0)},
    )
    if not killed:
        write_receipt(env, state, receipt_of_rollback(env, state))
    first = last_receipt(env)
    open_streams[0] = 0
    last = last_receipt(env)
    assert [(one["strategy"], one["streams_completed"], one["streams_still_open"]) for one in (first, last)] == [
        ("rollback", 0, 2),
        ("rollback", 2, 0),
    ]
    assert len(read_receipts(env)) == 1


def lost(*names: str, more: int = 0) -> LostRequests:
    one: dict[str, Any] = {
        "at": AT,
        "key": "team",
        "slot": "blue",
        "server": "blue-2",
        "status": 200,
        "termination": "SD",
    }
    named: Any = [one | {"bytes_out": 9, "request_id": name} for name in names]
    return {"named": named, "more": more}


@pytest.mark.parametrize("is_last", [True, False])
def test_lost_requests_are_named_from_the_first_share_on_and_those_after_the_receipt_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_last: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    state = switched()
    monkeypatch.setattr(Record, "state", lambda record: state if is_last else State())
    asked: list[Moment] = []

    def read(router: Router, since: Moment, until: Moment) -> LostRequests:
        asked.append(since)
        return lost("a", "b") if len(asked) == 1 else lost("b", "c", more=3)

    monkeypatch.setattr(Router, "lost", read)
    now: dict[SlotName, Traffic] = {"blue": Traffic(0, 9, 0, 2, 0), "green": Traffic(0, 7, 0, 0, 0)}
    write_receipt(env, state, receipt(state, "blue-green", now, 60.0, 0.0, lost=lost_of(env, state)))
    found = last_receipt(env)
    assert found["lost"] == lost("a", "b") and found["lost_since"] == lost("c", more=3)
    assert [one.at - NOON for one in asked] == pytest.approx([-30, 60], abs=0.2)
    shown = for_people(found)
    assert shown["lost"].splitlines()[0] == f"{AT}  blue-2  SD 200  9 bytes  team  a"
    assert shown["lost since"].splitlines() == [f"{AT}  blue-2  SD 200  9 bytes  team  c", "and 3 more"]
    assert "lost" not in for_people({**found, "lost": lost()}), "what is not so is left out"
