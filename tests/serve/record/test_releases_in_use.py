"""Which releases the environments need: what they pin, what their records say runs, and what they would go back to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.release import ReleaseUse
from configs.slots import SlotName
from serve.record.event import Event
from serve.record.fold import fold
from serve.record.record import Record
from serve.record.releases_in_use import environments, needs, releases_in_use, uses_in

pytestmark = pytest.mark.unit
ONE, TWO, THREE = (f"calls@sha256:{digit * 64}" for digit in "123")
LOCAL = "name: local\nrelease: {}\nmodel: m\ngate: null\nstate_dir: build/deploy/local\n"


def event(kind: Any, slot: SlotName | None = None, at: str = "2026-11-25T19:00:00.000+00:00", **facts: Any) -> Event:
    return Event(at=at, kind=kind, slot=slot, facts=facts)


def served(reference: str, slot: SlotName, minute: int) -> list[Event]:
    at = f"2026-11-25T19:{minute:02}:00.000+00:00"
    return [
        event("desired", release=reference),
        event("starting", slot, release=reference),
        event("switched", slot, at),
        event("baked", slot),
    ]


def hows(found: list[ReleaseUse]) -> dict[str, list[str]]:
    return {
        reference: [use.how for use in found if use.reference == reference]
        for reference in sorted({use.reference for use in found})
    }


def test_an_environment_that_never_ran_needs_its_pin_alone() -> None:
    assert uses_in("local", ONE, []) == [ReleaseUse("local", ONE, "pinned", True, None)]
    assert uses_in("local", None, []) == []


def test_what_serves_what_is_warm_and_where_a_rollback_would_go_are_needed() -> None:
    events = [*served(ONE, "blue", 1), *served(TWO, "green", 2)]
    assert hows(uses_in("local", TWO, events)) == {
        ONE: ["in slot blue", "rollback target"],
        TWO: ["pinned", "serves (green)", "desired", "requested"],
    }
    assert {use.reference: use.switched for use in uses_in("local", TWO, events)} == {
        ONE: "2026-11-25T19:01:00.000+00:00", TWO: "2026-11-25T19:02:00.000+00:00",
    }  # fmt: skip


def test_what_once_ran_is_told_but_not_needed() -> None:
    events = [
        *served(ONE, "blue", 1),
        *served(TWO, "green", 2),
        event("stopped", "blue"),
        *served(THREE, "blue", 3),
        event("stopped", "green"),
    ]
    (gone,) = [use for use in uses_in("local", THREE, events) if not use.needed]
    assert gone == ReleaseUse("local", ONE, "not any more", False, "2026-11-25T19:01:00.000+00:00")


def test_a_pin_that_the_agent_left_behind_is_still_needed() -> None:
    """After a rollback the YAML pins what failed, until somebody changes it."""
    events = [*served(ONE, "blue", 1), *served(TWO, "green", 2), event("aborted", why="errors")]
    assert (
        "pinned" in hows(uses_in("local", TWO, events))[TWO] and "desired" in hows(uses_in("local", TWO, events))[ONE]
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["desired", "starting", "switched", "baked", "stopped", "crashed"]),
        st.sampled_from(["blue", "green"]),
        st.sampled_from([ONE, TWO, THREE]),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([None, ONE, TWO]))
def test_whatever_happened_no_slots_release_and_no_pin_is_forgotten(
    steps: list[tuple[str, SlotName, str]], pinned: str | None
) -> None:
    events = [
        event("desired", release=release) if kind == "desired" else event(kind, slot, release=release)
        for kind, slot, release in steps
    ]
    found, state = uses_in("x", pinned, events), fold(events)
    needed = {use.reference for use in found if use.needed}
    assert {release for slot in ("blue", "green") if (release := state.release_of(slot))} | (
        {pinned} - {None}
    ) <= needed  # type: ignore[arg-type]  # two literals
    assert {reference for reference, _ in needs(state)} <= needed
    assert not needed & {use.reference for use in found if not use.needed}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/deploy").mkdir(parents=True)
    (tmp_path / "configs/deploy/local.yaml").write_text(LOCAL.format(ONE))
    return tmp_path


def test_every_environment_is_asked_and_records_without_a_yaml_as_well(here: Path) -> None:
    record = Record(here / "build/demo/deploy/events.jsonl")
    record.append("desired", release=TWO)
    record.append("starting", "blue", release=TWO)
    assert [name for name, _, _ in environments()] == ["local", "build/demo/deploy"]
    assert hows(releases_in_use()) == {ONE: ["pinned"], TWO: ["in slot blue", "desired", "requested"]}


def test_the_record_of_a_known_environment_is_read_once(here: Path) -> None:
    Record(here / "build/deploy/local/events.jsonl").append("desired", release=ONE)
    assert [name for name, _, _ in environments()] == ["local"]


def test_a_yaml_that_cannot_be_read_is_no_environment_without_a_pin(here: Path) -> None:
    (here / "configs/deploy/broken.yaml").write_text("name: [")
    with pytest.raises(InputError, match=r"broken\.yaml"):
        releases_in_use()


def test_without_any_environment_nothing_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert releases_in_use() == []
