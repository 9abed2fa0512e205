"""One window against the baseline: a release that is worse is found and named, one that is as good is left alone, and
too little evidence is inconclusive, which is no pass."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.watch import Watch
from infra.vllm.counters import Counted
from serve.watch.compare import FIGURES, FigureCheck, compare_window, decide
from tests.support.traffic import asked, counted
from tunegate import compare_by

pytestmark = pytest.mark.unit
COMPARE, WATCH = compare_by(), Watch()


def window(
    n: int, *, failed: int = 0, broken: int = 0, first: float = 0.05, gap: float = 0.02, length: int = 20,
    truncated: int = 0, seed: int = 0, **facts: Any,
) -> Counted:  # fmt: skip
    """Gamma times of a spread of half their mean, as a queue has; lengths of a fifth. All requests are alike."""
    draw = numpy.random.default_rng(seed)
    firsts, gaps = draw.gamma(4, first / 4, n), draw.gamma(4, gap / 4, n)
    lengths = numpy.maximum(1, draw.normal(length, length / 5, n).round())
    return counted(
        *(
            asked(
                first=firsts[place],
                gap=gaps[place],
                tokens=int(lengths[place]),
                truncated=place < truncated,
                status=500 if place >= n - failed else 200,
                **facts,
            )
            for place in range(n)
        ),
        broken=broken,
    )


def breaches(found: list[FigureCheck]) -> list[str]:
    return [one.figure for one in found if one.outcome == "breach"]


@pytest.mark.parametrize(
    ("facts", "figure"),
    [
        ({"failed": 25}, "error rate"),
        ({"broken": 25}, "unanswered requests"),
        ({"first": 0.2}, "time to first token"),
        ({"gap": 0.06}, "time per output token"),
        ({"length": 1}, "share of empty answers"),
        ({"truncated": 40}, "share of truncated answers"),
        ({"length": 90}, "answer length"),
        ({"length": 6}, "answer length"),
    ],
)
def test_each_way_to_be_worse_is_found_and_named_and_fails_the_watch(facts: dict[str, Any], figure: str) -> None:
    found = compare_window(window(200, failed=1, truncated=2), window(60, seed=1, **facts), WATCH, COMPARE, looks=32)
    assert figure in breaches(found) and len(found) == FIGURES + 1
    outcome, why = decide(found)
    assert outcome == "fail" and figure in why and "against" in why


@pytest.mark.parametrize("facts", [{}, {"first": 0.06, "gap": 0.024}, {"failed": 1}, {"broken": 1}, {"length": 26}])
def test_one_that_is_as_good_or_a_little_worse_than_allowed_passes(facts: dict[str, Any]) -> None:
    found = compare_window(window(200, failed=1), window(60, seed=2, **facts), WATCH, COMPARE)
    assert decide(found)[0] == "pass" and "not shown to be worse: error rate, " in decide(found)[1]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 10**6))
@settings(max_examples=30)
def test_too_few_requests_on_either_side_are_inconclusive_however_bad(n: int, other_n: int, seed: int) -> None:
    found = compare_window(
        window(other_n, seed=seed), window(n, failed=n, first=3.0, length=1, seed=seed + 1), WATCH, COMPARE
    )
    if min(n, other_n) < WATCH.minimum_requests:
        outcome, why = decide(found)
        assert outcome == "inconclusive" and "at least 20 of each are needed" in why
        assert f"{n} requests, {other_n} of the old release" in why
    else:
        assert decide(found)[0] == "fail"


@given(st.integers(20, 100), st.integers(0, 100), st.integers(20, 100), st.integers(0, 100), st.integers(1, 10_000))
@settings(max_examples=50)
def test_more_failures_never_look_better_and_more_looks_never_alarm_sooner(
    n: int, failed: int, other_n: int, other_failed: int, looks: int
) -> None:
    def breach(more: int, looks: int) -> bool:
        theirs = window(other_n, failed=min(other_n, other_failed))
        ours = window(n, failed=min(n, failed + more))
        return "error rate" in breaches(compare_window(theirs, ours, WATCH, COMPARE, looks))

    assert breach(0, looks) <= breach(1, looks) and breach(0, looks) <= breach(0, 1)


@given(st.integers(20, 100), st.integers(0, 10**6))
@settings(max_examples=25)
def test_a_window_is_never_worse_than_itself(n: int, seed: int) -> None:
    same = window(n, failed=n // 3, broken=n // 5, truncated=n // 2, length=2, seed=seed)
    assert breaches(compare_window(same, same, WATCH, COMPARE)) == []


def test_a_release_whose_requests_all_fail_has_no_times_and_fails_all_the_same() -> None:
    found = compare_window(window(100), window(40, failed=40), WATCH, COMPARE)
    assert breaches(found) == ["error rate"] and "time to first token is inconclusive" in found[3].sentence


def test_a_classifier_has_errors_and_times_and_nothing_else() -> None:
    facts: dict[str, Any] = {"streams": False, "is_text": False, "length": 0}
    bad = compare_window(window(90, **facts), window(60, failed=20, seed=1, first=0.2, **facts), WATCH, COMPARE)
    assert breaches(bad) == ["error rate", "time to first token"] and len(bad) == 4
    assert decide(compare_window(window(90, **facts), window(60, seed=1, **facts), WATCH, COMPARE))[0] == "pass"


def test_of_answers_that_are_not_streamed_the_time_a_token_is_compared() -> None:
    found = compare_window(window(90, streams=False), window(60, streams=False, gap=0.06, seed=1), WATCH, COMPARE)
    assert breaches(found) == ["time per output token"] and "time to first token" not in decide(found)[1]


def test_what_hardly_anybody_asks_for_holds_nothing_up() -> None:
    """Of the old release's requests 5 of 100 were streamed, of the new one's 1 of 60: no figure of theirs is waited
    for."""

    def mixed(n: int, streamed: int, seed: int) -> Counted:
        parts = window(n - streamed, streams=False, seed=seed), window(streamed, seed=seed)
        return counted(*(one.strata or {} for one in parts))

    found = compare_window(mixed(100, 5, 1), mixed(60, 1, 2), WATCH, COMPARE)
    assert decide(found)[0] == "pass" and "time to first token" not in [one.figure for one in found]


@pytest.mark.parametrize("side", ["new", "old"])
def test_a_server_that_an_earlier_tunegate_started_is_judged_by_the_routers_errors_and_passes_nothing(
    side: str,
) -> None:
    told, untold = window(90), Counted(requests=90)
    found = compare_window(*((told, untold) if side == "new" else (untold, told)), WATCH, COMPARE)
    outcome, why = decide(found)
    assert outcome == "inconclusive" and f"the {side} release's server does not say what its users asked" in why
    failing = compare_window(Counted(requests=90), Counted(requests=60, failed=20), WATCH, COMPARE)
    assert decide(failing)[0] == "fail" and "error rate 33.3% of 60 against 0.0% of 90" in decide(failing)[1]
