"""Load figures: what was not measured is left out, a failure never hides in a percentile, goodput wants the whole
objective."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.load_test import LoadTest, Objective
from serve.load.figures import knee_of, meets, steps_of, summarise

pytestmark = pytest.mark.unit
CLOSED = LoadTest()
SLO = Objective(time_to_first_token_ms=200, inter_token_ms=100, latency_ms=600)


def sample(
    ok: bool = True, first: float | None = 0.1, seconds: float = 0.5, tokens: int = 5, at: float = 0.0, **facts: Any
) -> Any:
    gaps = [(seconds - first) / (tokens - 1)] * (tokens - 1) if first is not None and tokens > 1 else []
    return {
        "ok": ok,
        "status": 200 if ok else 500,
        "seconds": seconds,
        "first": first,
        "tokens": tokens,
        "at": at,
        "late": 0.0,
        "gaps": gaps,
        **facts,
    }


def test_no_request_gives_no_rate() -> None:
    assert summarise([], CLOSED) == {"requests": 0, "failures": 0}


def test_all_failures_give_an_error_rate_and_no_latency() -> None:
    figures = summarise([sample(ok=False), sample(ok=False, first=None)], CLOSED)
    assert (
        figures["error_rate"] == 1 and "time_to_first_token_p95_ms" not in figures and "latency_p50_ms" not in figures
    )


def test_figures_of_a_known_run() -> None:
    figures = summarise([sample(first=0.1, at=0.0), sample(first=0.3, seconds=0.7, at=0.3)], CLOSED)
    assert figures["time_to_first_token_p50_ms"] == pytest.approx(200)
    assert figures["inter_token_p50_ms"] == figures["time_per_output_token_p50_ms"] == pytest.approx(100)
    assert figures["requests_per_second"] == pytest.approx(2.0) and figures["tokens_per_second"] == pytest.approx(10.0)
    assert "goodput_share" not in figures and "knee_requests_per_second" not in figures


def test_one_long_gap_is_seen_in_inter_token_latency_which_the_mean_of_an_answer_hides() -> None:
    figures = summarise([sample() | {"gaps": [0.01, 0.01, 0.01, 0.37]}], CLOSED)
    assert figures["inter_token_p99_ms"] > 300 and figures["time_per_output_token_p99_ms"] == pytest.approx(100)


def test_a_classifier_has_latency_and_no_first_token() -> None:
    figures = summarise([sample(first=None, tokens=0)], CLOSED)
    assert figures["latency_p95_ms"] == pytest.approx(500) and "time_to_first_token_p50_ms" not in figures


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 10), st.floats(0.001, 10)), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_counts_add_up(rows: list[tuple[bool, float, float]]) -> None:
    figures = summarise([sample(ok, first, first + rest) for ok, first, rest in rows], LoadTest(slo=SLO))
    assert figures["failures"] == sum(not ok for ok, _, _ in rows) and 0 <= figures["error_rate"] <= 1
    assert (
        0 <= figures["goodput_share"] <= 1 - figures["error_rate"]
        and figures["goodput_requests_per_second"] <= figures["requests_per_second"]
    )
    if any(ok for ok, _, _ in rows):
        assert figures["latency_p50_ms"] <= figures["latency_p95_ms"] <= figures["latency_p99_ms"]


@pytest.mark.parametrize(
    ("facts", "met"),
    [
        ({}, True),
        ({"ok": False}, False),
        ({"first": 0.21}, False),
        ({"seconds": 0.61}, False),
        ({"seconds": 0.59, "tokens": 2}, False),
        ({"first": None}, False),
        ({"tokens": 1}, True),
    ],
)
def test_a_request_is_good_when_it_met_every_limit(facts: dict[str, Any], met: bool) -> None:
    assert meets(sample(**facts), SLO) is met


def test_only_stated_limits_are_asked_for() -> None:
    assert meets(sample(first=None, tokens=0), Objective(latency_ms=501)) and not meets(
        sample(), Objective(latency_ms=499)
    )


def ramp(*latencies: float, slo: Objective | None = SLO) -> dict[str, float]:
    rates = [float(2**step) for step in range(len(latencies))]
    samples = [
        sample(first=0.01, seconds=one, step=step, rate=rates[step], at=10 * step + part)
        for step, one in enumerate(latencies)
        for part in range(5)
    ]
    settings = LoadTest(ramp=rates, slo=slo)
    assert [row["rate"] for row in steps_of(samples, settings)] == rates
    return summarise(samples, settings)


@pytest.mark.parametrize(
    ("latencies", "knee"), [((0.1, 0.2, 0.3), 4), ((0.1, 0.2, 0.9), 2), ((0.1, 0.9, 0.2), 1), ((0.9, 0.1), 0)]
)
def test_the_knee_is_the_highest_rate_up_to_which_nine_in_ten_meet_the_objective(
    latencies: tuple[float, ...], knee: float
) -> None:
    assert ramp(*latencies)["knee_requests_per_second"] == knee


@pytest.mark.parametrize(("latencies", "knee"), [((0.1, 0.1, 0.11), 4), ((0.1, 0.12, 0.9), 2), ((0.1, 0.4, 3.0), 1)])
def test_without_an_objective_it_is_the_rate_of_most_throughput_by_latency(
    latencies: tuple[float, ...], knee: float
) -> None:
    assert ramp(*latencies, slo=None)["knee_requests_per_second"] == knee


def test_steps_without_a_request_are_shown_and_no_knee() -> None:
    assert steps_of([], LoadTest(ramp=[1, 2])) == [{"rate": 1, "requests": 0}, {"rate": 2, "requests": 0}]
    assert knee_of([{"rate": 1, "requests": 0}], SLO) is None and knee_of([], None) is None
