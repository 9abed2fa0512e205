"""What is known of pods: whatever a watch loses or says late, the next list puts right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kubernetes.pods import KnownPods, Pod, pod_of

pytestmark = pytest.mark.unit


def item(**status: Any) -> dict[str, Any]:
    about = {"uid": "u", "name": "n", "resourceVersion": "7", "labels": {"tunegate.dev/slot": "green"}}
    return {"metadata": about, "status": {"phase": "Running", "podIP": "10.0.0.1"} | status}


def test_a_pod_is_ready_by_its_condition_and_ends_from_its_deletion_on() -> None:
    ready = item(conditions=[{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}])
    assert pod_of(ready) == Pod("u", "n", "10.0.0.1", "green", "", True, False, 7)
    ready["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_of(ready).ending
    assert not pod_of(item(conditions=[{"type": "Ready", "status": "False"}])).ready
    assert not pod_of(item()).ready
    assert pod_of({"metadata": {"uid": "u", "name": "n"}}) == Pod("u", "n")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_one_that_has_ended_has_no_address_that_anybody_could_be_sent_to(phase: str) -> None:
    assert pod_of(item(phase=phase)).address == ""


def test_a_word_that_is_older_than_what_is_known_changes_nothing() -> None:
    known = KnownPods()
    known.take_word("ADDED", Pod("u", "n", ready=True, version=5))
    known.take_word("MODIFIED", Pod("u", "n", ready=False, version=4))
    known.take_list([Pod("u", "n", ready=False, version=4)], 4)
    assert known.all() == [Pod("u", "n", ready=True, version=5)]


def test_a_list_that_was_made_before_an_end_does_not_bring_the_pod_back() -> None:
    known = KnownPods()
    known.take_list([Pod("u", "n", version=3)], 3)
    known.take_word("DELETED", Pod("u", "n", version=9))
    known.take_list([Pod("u", "n", version=3)], 8)
    assert known.all() == []
    known.take_list([], 10)
    assert known.gone == {}, "no end is remembered for ever"


def test_only_news_wake_whoever_waits() -> None:
    known = KnownPods()
    known.take_list([Pod("u", "n", version=3)], 3)
    assert known.changed.is_set() and known.were_listed
    known.changed.clear()
    known.take_list([Pod("u", "n", version=4)], 5)
    assert not known.changed.is_set()


@st.composite
def histories(draw: Any) -> list[tuple[str, str, bool]]:
    """Words by uid, each heard or lost."""
    words = st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), st.sampled_from("abc"), st.booleans())
    return draw(st.lists(words, max_size=30))  # type: ignore[no-any-return]


@given(histories(), st.lists(st.integers(0, 30), max_size=4))
def test_after_a_list_what_is_known_is_what_is_whatever_was_lost_and_however_late_earlier_lists_came(
    history: list[tuple[str, str, bool]], late: list[int]
) -> None:
    known, world, lists, lives = KnownPods(), dict[str, Pod](), list[tuple[list[Pod], int]](), dict[str, int]()
    for version, (word, name, is_heard) in enumerate(history, 1):
        uid = f"{name}{lives.get(name, 0)}"
        if word == "DELETED":
            if uid not in world:
                continue
            pod = world.pop(uid)._replace(version=version)
            lives[name] = lives.get(name, 0) + 1
        else:
            word = "MODIFIED" if uid in world else "ADDED"
            pod = world[uid] = Pod(uid, name, ready=version % 2 == 0, version=version)
        lists.append((list(world.values()), version))
        if is_heard:
            known.take_word(word, pod)
        for number in late:
            if number < len(lists) and number % 3 == version % 3:
                known.take_list(*lists[number])
    known.take_list(world.values(), len(history))
    assert {pod.uid: pod for pod in known.all()} == world
