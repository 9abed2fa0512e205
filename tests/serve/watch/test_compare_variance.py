"""The widest variance that a histogram allows is never smaller than the true one, and not wider than its buckets make
it."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vllm.counters import Histogram
from serve.watch.compare import variance

pytestmark = pytest.mark.unit


def counted(values: list[float], edges: list[float]) -> Histogram:
    lows, highs = [-1.0, *edges], [*edges, float("inf")]
    counts = [sum(low < one <= high for one in values) for low, high in zip(lows, highs, strict=True)]
    return Histogram(edges=edges, counts=counts, total=sum(values))


@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=60),
    st.lists(st.floats(0.01, 10), min_size=1, max_size=8, unique=True),
)
def test_it_is_an_upper_bound(values: list[float], edges: list[float]) -> None:
    assert variance(counted(values, sorted(edges))) >= statistics.variance(values) * (1 - 1e-9) - 1e-9


@given(st.lists(st.floats(0.1, 0.2, exclude_min=True), min_size=2, max_size=60))
def test_in_one_bucket_it_is_at_most_that_of_both_ends(values: list[float]) -> None:
    """Bhatia and Davis (2000): (upper - mean)(mean - lower), here of a sample."""
    mean, n = statistics.fmean(values), len(values)
    assert variance(counted(values, [0.1, 0.2, 0.5])) == pytest.approx(
        (0.2 - mean) * (mean - 0.1) * n / (n - 1), abs=1e-9
    )


def test_one_observation_above_all_edges_may_hold_the_whole_rest() -> None:
    assert variance(counted([0.05, 0.05, 9.0], [0.1, 0.2])) == pytest.approx(statistics.variance([0.0, 0.0, 9.1]))
