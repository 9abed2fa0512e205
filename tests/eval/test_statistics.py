"""The paired interval and p, against the published table, scipy and their own symmetries."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics import compare, mcnemar_p, newcombe_interval

pytestmark = pytest.mark.unit
COUNTS = st.integers(0, 60)
CELLS = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS).filter(any)
PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)
CONFIDENCE = st.floats(0.51, 0.999)


@pytest.mark.parametrize(
    ("cells", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), (0.0562, 0.3292)),
        ((18, 12, 2, 18), (0.0562, 0.3290)),
        ((36, 14, 0, 0), (0.1528, 0.4167)),
        ((35, 14, 0, 1), (0.1461, 0.4175)),
        ((18, 14, 0, 18), (0.1441, 0.3963)),
        ((2, 97, 1, 0), (0.8721, 0.9854)),
        ((1, 97, 1, 1), (0.8736, 0.9850)),
        ((0, 29, 1, 0), (0.6666, 0.9882)),
        ((2, 98, 0, 0), (0.9178, 0.9945)),
        ((1, 98, 0, 1), (0.9171, 0.9916)),
        ((0, 30, 0, 0), (0.8395, 1.0000)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),
        ((53, 0, 0, 1), (-0.0729, 0.0729)),
        ((30, 0, 0, 24), (-0.0358, 0.0358)),
        ((29, 0, 0, 25), (-0.0354, 0.0354)),
        ((28, 0, 0, 26), (-0.0352, 0.0352)),
        ((27, 0, 0, 27), (-0.0351, 0.0351)),
    ],
)
def test_the_published_intervals_are_reproduced(cells: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    """Newcombe 1998 (Statist. Med. 17:2635), table III, method 10; cells are both, gained, lost, neither. Its 0.8736 is a 0.87367."""
    assert newcombe_interval(*cells, 0.95) == pytest.approx(interval, abs=8e-5)


@given(CELLS, CONFIDENCE)
def test_the_interval_holds_the_difference_and_never_collapses(cells: tuple[int, int, int, int], confidence: float) -> None:
    low, high = newcombe_interval(*cells, confidence)
    difference = (cells[1] - cells[2]) / sum(cells)
    assert -1 <= low <= difference + 1e-9 and difference - 1e-9 <= high <= 1
    assert high - low > 1e-4


@given(CELLS, CONFIDENCE)
def test_the_interval_mirrors_when_systems_or_outcomes_are_swapped(cells: tuple[int, int, int, int], confidence: float) -> None:
    both, gained, lost, neither = cells
    low, high = newcombe_interval(both, gained, lost, neither, confidence)
    assert newcombe_interval(both, lost, gained, neither, confidence) == pytest.approx((-high, -low))
    assert newcombe_interval(neither, lost, gained, both, confidence) == pytest.approx((-high, -low))


@given(CELLS, CONFIDENCE, CONFIDENCE)
def test_more_confidence_is_a_wider_interval(cells: tuple[int, int, int, int], one: float, other: float) -> None:
    (low, high), (lower, higher) = (newcombe_interval(*cells, confidence) for confidence in sorted([one, other]))
    assert lower <= low + 1e-9 and high <= higher + 1e-9


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_p(gained, lost) == pytest.approx(expected)
    assert 0 < mcnemar_p(gained, lost) <= 1


@given(PAIRS, st.randoms(use_true_random=False))
def test_examples_are_paired_by_id_in_any_order(pairs: list[tuple[float, float]], shuffler: random.Random) -> None:
    ids = [str(number) for number in range(len(pairs))]
    release, reference = ({key: pair[side] for key, pair in zip(ids, pairs, strict=True)} for side in (0, 1))
    paired = compare(release, reference, 0.95)
    assert (paired.n, paired.gained, paired.lost) == (len(pairs), pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0)))
    assert paired.difference == pytest.approx(sum(one - other for one, other in pairs) / len(pairs))
    shuffler.shuffle(ids)
    assert compare({key: release[key] for key in ids}, reference, 0.95) == paired
    back = compare(reference, release, 0.95)
    assert (back.difference, back.p_value, back.gained) == (-paired.difference, paired.p_value, paired.lost)
    assert (back.low, back.high) == pytest.approx((-paired.high, -paired.low))


@pytest.mark.parametrize(
    ("release", "reference", "message"),
    [
        ({}, {}, "not shared"),
        ({"1": 1.0}, {}, "1 examples are not shared"),
        ({"1": 1.0, "2": 1.0}, {"1": 1.0, "3": 1.0}, "2 examples are not shared"),
        ({"1": 0.5}, {"1": 1.0}, "other than 0 and 1"),
        ({"1": 1.0}, {"1": float("nan")}, "other than 0 and 1"),
        ({"1": -1.0}, {"1": 1.0}, "other than 0 and 1"),
    ],
)
def test_what_cannot_be_paired_is_refused(release: dict[str, float], reference: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(release, reference, 0.95)


def test_one_example_proves_nothing() -> None:
    paired = compare({"1": 1.0}, {"1": 0.0}, 0.95)
    assert (paired.difference, paired.p_value, paired.n) == (1.0, 1.0, 1) and paired.low < 0 < paired.high == 1.0
