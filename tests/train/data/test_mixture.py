"""Parts of a mix in proportion to their weights, whatever beginning of the order is looked at."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.mixture import interleave

pytestmark = pytest.mark.unit
PARTS = st.lists(st.tuples(st.integers(1, 60), st.floats(0.05, 20)), min_size=1, max_size=4)


@given(PARTS)
def test_every_beginning_has_the_parts_by_weight_and_no_row_comes_twice(
    parts: list[tuple[int, float]],
) -> None:
    part = numpy.repeat(range(len(parts)), [size for size, _ in parts])
    order = numpy.random.default_rng(7).permutation(len(part))
    weights = [weight for _, weight in parts]
    kept = interleave(order, part, weights)
    assert len(set(kept.tolist())) == len(kept)
    shares = numpy.array(weights) / sum(weights)
    for length in range(1, len(kept) + 1):
        counts = numpy.bincount(part[kept[:length]], minlength=len(parts))
        assert (abs(counts - shares * length) < len(parts)).all()


def test_the_part_that_is_used_up_first_bounds_all_and_rows_keep_their_order() -> None:
    part = numpy.array([0] * 10 + [1] * 90)
    order = numpy.arange(100)
    kept = interleave(order, part, [1.0, 2.0])
    assert numpy.bincount(part[kept]).tolist() == [10, 20]
    assert kept[part[kept] == 1].tolist() == list(range(10, 30))
