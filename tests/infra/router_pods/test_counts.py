"""Sums over routers that come, go, restart and fall silent: none ever falls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.router_pods.counts import MOST_GONE, KeptCounts, RouterCounts, folded, no_counts, total, traffic_in

pytestmark = pytest.mark.unit


def counted(name: str, seen: int, is_open: int = 0, cut: int = 0, **facts: Any) -> RouterCounts:
    row = {"open": is_open, "total": seen, "failed": 0, "cut_by_server": cut, "left_by_client": 0}
    found: RouterCounts = {
        "id": name, "final": False, "traffic": {"green": row}, "unanswered": seen // 2, "uncounted": 0, "held": {}
    }  # fmt: skip
    return {**found, **facts}  # type: ignore[typeddict-item]  # as a test states them


def green(kept: KeptCounts) -> tuple[int, int, int]:
    found = traffic_in(total(kept))["green"]
    return found.open, found.total, found.cut_by_server


def test_two_routers_are_one_sum() -> None:
    kept = folded(no_counts(), [counted("a/1", 5, 2), counted("b/1", 7, 1)], {"a", "b"})
    assert green(kept) == (3, 12, 0) and total(kept)["unanswered"] == 2 + 3


def test_who_is_there_and_silent_counts_as_it_was_last_seen() -> None:
    kept = folded(no_counts(), [counted("a/1", 5, 2), counted("b/1", 7)], {"a", "b"})
    assert green(folded(kept, [counted("b/1", 8)], {"a", "b"})) == (2, 13, 0)


def test_what_a_router_that_is_gone_had_open_was_cut_and_what_it_drained_was_not() -> None:
    kept = folded(no_counts(), [counted("a/1", 5, 2), counted("b/1", 7, 3)], {"a", "b"})
    kept = folded(kept, [counted("b/1", 7, 0, final=True)], {"b"})
    assert green(kept) == (0, 12, 2)
    assert green(folded(kept, [], set())) == (0, 12, 2)


def test_a_router_that_was_only_out_of_sight_is_counted_once() -> None:
    kept = folded(no_counts(), [counted("a/1", 5, 2)], {"a"})
    kept = folded(kept, [], set())
    assert green(folded(kept, [counted("a/1", 9, 1)], {"a"})) == (1, 9, 0)


def test_a_haproxy_that_was_started_again_in_its_pod_begins_at_zero_and_the_sum_does_not() -> None:
    kept = folded(no_counts(), [counted("a/1", 5, 2)], {"a"})
    assert green(folded(kept, [counted("a/2", 1, 1)], {"a"})) == (1, 6, 2)


def test_the_file_does_not_grow_over_the_years() -> None:
    kept = no_counts()
    for number in range(3 * MOST_GONE):
        kept = folded(kept, [counted(f"u{number}/1", 1)], {f"u{number}"})
    assert len(kept["routers"]) == MOST_GONE + 1 and green(kept) == (0, 3 * MOST_GONE, 0)


looks = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),  # who answers, and how many requests later
        st.sets(st.sampled_from("abc")),  # who else is there
        st.sets(st.sampled_from("abc")),  # whose HAProxy has been started again
    ),
    max_size=20,
)


@given(looks)
def test_no_sum_ever_falls(history: list[tuple[dict[str, int], set[str], set[str]]]) -> None:
    kept, seen, starts, before = no_counts(), dict.fromkeys("abc", 0), dict.fromkeys("abc", 0), 0
    real = 0
    for answering, others, restarted in history:
        for name in restarted:
            starts[name], seen[name] = starts[name] + 1, 0
        for name, more in answering.items():
            seen[name], real = seen[name] + more, real + more
        found = [counted(f"{name}/{starts[name]}", seen[name]) for name in answering]
        kept = folded(kept, found, {*answering, *others})
        now = green(kept)[1]
        assert before <= now <= real
        before = now
