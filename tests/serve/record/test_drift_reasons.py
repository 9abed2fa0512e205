"""Pinned and serving never differ in silence, and only a rollback is written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.record.drift import difference, is_rolled_back
from serve.record.event import Event, Kind
from serve.record.fold import fold
from serve.record.state import State
from tests.support.planner_world import NEW, NEXT, OLD

pytestmark = pytest.mark.unit
AT = "2026-11-25T10:00:00+00:00"


def event(kind: Kind, slot: str | None = None, **facts: object) -> Event:
    return Event.model_validate({"at": AT, "kind": kind, "slot": slot, "facts": facts})


def served(release: str, slot: str, commit: str = "c1") -> list[Event]:
    facts = {"flip_milliseconds": 1.0, "before": {}}
    return [
        event("desired", release=release, commit=commit, author="Ada <a>"),
        event("starting", slot, release=release),
        event("switching", slot),
        event("switched", slot, **facts),
        event("baked", slot),
    ]


GOOD = served(OLD, "blue")
BROKEN = [
    *GOOD,
    *served(NEW, "green", "c2")[:-1],
    event("desired", release=OLD, rollback=True, failed=NEW, why="12 requests failed"),
]
BACK = [*BROKEN, event("switching", "blue"), event("switched", "blue", flip_milliseconds=1.0, before={})]


def test_what_serves_as_pinned_is_no_difference() -> None:
    assert (
        difference(fold(GOOD), OLD) is None
        and difference(fold(GOOD), None) is None
        and difference(State(), None) is None
    )


@pytest.mark.parametrize(
    ("events", "pinned", "why"),
    [
        (GOOD, NEW, "this pin was not taken up yet"),
        ([*GOOD, event("desired", release=NEW)], NEW, "the deployment is under way"),
        ([*GOOD, event("desired", release=NEW), event("refused", why="parity is bad")], NEW, "parity is bad"),
        ([*GOOD, event("failed", release=NEW, why="no verdict beside it")], NEW, "no verdict beside it"),
        ([*GOOD, event("held", release=OLD)], NEW, "held by the operator"),
        (
            [*GOOD, event("desired", release=NEW), event("paged", "green", why="a person is needed")],
            NEW,
            "a person is needed",
        ),
        (BACK, NEW, "12 requests failed"),
    ],
)
def test_each_difference_has_its_reason(events: list[Event], pinned: str, why: str) -> None:
    assert difference(fold(events), pinned) == {"pinned": pinned, "serves": OLD, "why": why}


def test_a_rollback_is_written_back_once_traffic_went_back_and_while_the_pin_is_the_one_that_failed() -> None:
    assert not is_rolled_back(fold(BROKEN), NEW)
    assert is_rolled_back(fold(BACK), NEW)
    assert not is_rolled_back(fold(BACK), NEXT) and not is_rolled_back(fold(BACK), OLD)
    assert not is_rolled_back(fold([*BACK, event("held", release=OLD)]), NEW)


def test_who_pinned_stays_known_through_a_rollback_and_is_the_merger_once_the_pin_follows() -> None:
    state = fold(BACK)
    wanted = state.wanted
    assert (wanted.pinned, wanted.desired, wanted.commit, wanted.author) == (NEW, OLD, "c2", "Ada <a>")
    proposed = fold([*BACK, event("proposed", replaces=NEW, release=OLD, url="http://mr/1")])
    differs = difference(proposed, NEW)
    assert differs and differs["merge_request"] == "http://mr/1"
    merged = fold(
        [
            *BACK,
            event("proposed", url="u"),
            event("desired", release=OLD, rollback=True, pinned=True, failed=NEW, commit="c3", author="Bo <b>"),
        ]
    )
    assert difference(merged, OLD) is None and (
        merged.wanted.commit,
        merged.wanted.author,
        merged.git.proposed,
        merged.wanted.why,
    ) == (
        "c3",
        "Bo <b>",
        {},
        None,
    )


def test_a_release_that_fails_a_second_time_is_written_back_a_second_time() -> None:
    again = fold(
        [
            *BACK,
            event("proposed", url="u"),
            event("desired", release=OLD, rollback=True, pinned=True),
            *BROKEN[len(GOOD) :],
            *BACK[len(BROKEN) :],
        ]
    )
    assert is_rolled_back(again, NEW) and again.git.proposed == {}


def test_the_agents_branch_is_remembered_until_an_agent_comes_without_one() -> None:
    with_branch = event("acquired", token=1, command="agent", follows="origin/main")
    command, plain = event("acquired", token=2, command="command"), event("acquired", token=3, command="agent")
    assert (
        fold([with_branch, command]).git.follows == "origin/main"
        and fold([with_branch, command, plain]).git.follows is None
    )


REQUESTS = st.sampled_from(
    [event("desired", release=release, commit=commit) for release in (OLD, NEW, NEXT) for commit in ("c1", "c2")]
    + [
        event("desired", release=OLD, rollback=True, failed=NEW, why="bad"),
        event("aborted", why="x"),
        event("held", release=OLD),
        event("resumed"),
    ]
    + [
        event("refused", why="no"),
        event("failed", release=NEXT, why="no"),
        event("proposed", url=None),
        event("pulled", commit="c", why="forced"),
    ]
    + [event(kind, slot) for kind in ("switching", "baked", "stopped") for slot in ("blue", "green")]
    + [event("switched", slot, flip_milliseconds=1.0, before={}) for slot in ("blue", "green")]
    + [event("starting", slot, release=release) for slot in ("blue", "green") for release in (OLD, NEW)]
)


@given(events=st.lists(REQUESTS, max_size=25), pinned=st.sampled_from([None, OLD, NEW, NEXT]))
def test_whatever_happened_a_difference_is_said_with_a_reason_exactly_where_there_is_one(
    events: list[Event], pinned: str | None
) -> None:
    state = fold(events)
    found, serves = difference(state, pinned), state.release_of(state.active)
    assert (found is None) == (pinned is None or pinned == serves)
    assert found is None or (found["why"] and (found["pinned"], found["serves"]) == (pinned, serves))
    assert not is_rolled_back(state, pinned) or found is not None
