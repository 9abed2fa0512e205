"""One window against the baseline: a release that is worse is found and named, one that is as good is left alone, and
too little evidence is inconclusive and does nothing."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.watch import Watch
from infra.vllm.counters import Counted, Histogram
from serve.watch.compare import FIGURES, FigureCheck, compare_window
from tests.support.fake_openai import FIRSTS, GAPS, LENGTHS
from tunegate import compare_by

pytestmark = pytest.mark.unit
COMPARE, WATCH = compare_by(), Watch()


def filled(values: list[float], edges: tuple[float, ...]) -> Histogram:
    places = numpy.searchsorted(edges, values, side="left")
    return Histogram(
        edges=list(edges), counts=numpy.bincount(places, minlength=len(edges) + 1).tolist(), total=float(sum(values))
    )


def window(
    n: int,
    failed: int = 0,
    first: float = 0.05,
    per_token: float = 0.02,
    length: int = 20,
    truncated: int = 0,
    seed: int = 0,
) -> Counted:
    """Gamma times of a spread of half their mean, as a queue has; lengths of a fifth."""
    draw = numpy.random.default_rng(seed)
    kinds = (("first", first, FIRSTS), ("per_token", per_token, GAPS))
    times = {name: filled(draw.gamma(4, mean / 4, n).tolist(), edges) for name, mean, edges in kinds}
    lengths = filled(numpy.maximum(1, draw.normal(length, length / 5, n).round()).tolist(), LENGTHS)
    return Counted(requests=n, failed=failed, answers=n, truncated=truncated, lengths=lengths, **times)


def breaches(found: list[FigureCheck]) -> list[str]:
    return [one.figure for one in found if one.outcome == "breach"]


@pytest.mark.parametrize(
    ("facts", "figure"),
    [
        ({"failed": 15}, "error rate"),
        ({"first": 0.2}, "time to first token"),
        ({"per_token": 0.06}, "time per output token"),
        ({"length": 1}, "share of empty answers"),
        ({"truncated": 40}, "share of truncated answers"),
        ({"length": 90}, "answer length"),
        ({"length": 6}, "answer length"),
    ],
)
def test_each_way_to_be_worse_is_found_and_named(facts: dict[str, Any], figure: str) -> None:
    found = compare_window(window(200, failed=1, truncated=2), window(50, seed=1, **facts), WATCH, COMPARE, looks=15)
    assert figure in breaches(found) and len(found) == FIGURES
    sentence = next(one.sentence for one in found if one.outcome == "breach")
    assert sentence.startswith((figure, "mean", "share")) and "against" in sentence


@pytest.mark.parametrize("facts", [{}, {"first": 0.06, "per_token": 0.024}, {"failed": 1}, {"length": 26}])
def test_one_that_is_as_good_or_a_little_worse_than_allowed_is_left_alone(facts: dict[str, Any]) -> None:
    assert breaches(compare_window(window(200, failed=1), window(60, seed=2, **facts), WATCH, COMPARE)) == []


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 10**6))
@settings(max_examples=50)
def test_too_few_requests_on_either_side_are_inconclusive_however_bad(n: int, other_n: int, seed: int) -> None:
    found = compare_window(
        window(other_n, seed=seed), window(n, failed=n, first=3.0, length=1, seed=seed + 1), WATCH, COMPARE
    )
    if min(n, other_n) < WATCH.minimum_requests:
        assert {one.outcome for one in found} == {"inconclusive"} and all(
            "at least 20 of each are needed" in one.sentence for one in found
        )
    else:
        assert "inconclusive" not in {one.outcome for one in found}


@given(st.integers(20, 300), st.integers(0, 300), st.integers(20, 300), st.integers(0, 300), st.integers(1, 10_000))
@settings(max_examples=100)
def test_more_failures_never_look_better_and_more_looks_never_alarm_sooner(
    n: int, failed: int, other_n: int, other_failed: int, looks: int
) -> None:
    def breach(more: int, looks: int) -> bool:
        theirs = Counted(requests=other_n, failed=min(other_n, other_failed))
        return breaches(
            compare_window(theirs, Counted(requests=n, failed=min(n, failed + more)), WATCH, COMPARE, looks)
        ) == ["error rate"]

    assert breach(0, looks) <= breach(1, looks) and breach(0, looks) <= breach(0, 1)


@given(st.integers(20, 200), st.integers(0, 10**6))
@settings(max_examples=50)
def test_a_window_is_never_worse_than_itself(n: int, seed: int) -> None:
    same = window(n, failed=n // 3, truncated=n // 2, length=2, seed=seed)
    assert breaches(compare_window(same, same, WATCH, COMPARE)) == []


def test_a_bake_of_many_looks_alarms_falsely_no_oftener_than_stated() -> None:
    """100 bakes of 5 looks at releases that are alike, with no allowance: at most 5% alarm."""
    strict = Watch(
        false_alarm=0.05,
        error_rate_increase=0,
        time_to_first_token_ratio=1,
        inter_token_ratio=1,
        empty_increase=0,
        truncated_increase=0,
        length_ratio=1,
    )
    alarms = 0
    for bake in range(100):
        draw = numpy.random.default_rng(bake)
        old = window(
            100, failed=int(draw.binomial(100, 0.02)), truncated=int(draw.binomial(100, 0.3)), seed=1000 + bake
        )
        failed, truncated = draw.binomial(1, 0.02, 200).cumsum(), draw.binomial(1, 0.3, 200).cumsum()
        looks = [
            window(n, failed=int(failed[n - 1]), truncated=int(truncated[n - 1]), seed=5000 + bake)
            for n in range(40, 201, 40)
        ]
        alarms += any(breaches(compare_window(old, one, strict, COMPARE, len(looks))) for one in looks)
    assert alarms / 100 <= 0.05


def test_a_classifier_is_watched_by_its_error_rate_alone() -> None:
    found = compare_window(
        Counted(requests=90, answers=90), Counted(requests=40, failed=12, answers=28), WATCH, COMPARE
    )
    assert breaches(found) == ["error rate"] and len(found) == 1


@pytest.mark.parametrize("side", ["new", "old"])
def test_where_probes_and_load_tests_answered_for_users_only_what_the_router_counted_is_compared(side: str) -> None:
    """A probe is an answer of one token, cut at max_tokens: a quiet release would look truncated beside a busy one."""
    users, mixed = window(100), window(100, length=1, truncated=70).model_copy(update={"requests": 30})
    found = compare_window(*((users, mixed) if side == "new" else (mixed, users)), WATCH, COMPARE)
    assert [(one.figure, one.outcome) for one in found] == [("error rate", "fine"), ("answers", "inconclusive")]
    assert f"70 of the {side} release's 100 did not go through the router" in found[1].sentence


def test_a_server_that_was_not_read_is_said_to_be_inconclusive() -> None:
    found = compare_window(window(90), Counted(requests=40), WATCH, COMPARE)
    assert [one.outcome for one in found] == ["fine", "inconclusive"] and "were not read" in found[1].sentence
