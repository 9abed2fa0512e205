"""The widest variance that a histogram allows: counts between edges and the exact sum are known, the observations are not."""

from __future__ import annotations

from infra.vllm.counters import Histogram


def variance(found: Histogram) -> float:
    """Never smaller than the true sample variance, so that no interval made of it is too narrow. Wants two observations.

    In a bucket from `low` to `high` a square is at most the chord's (low + high) x - low * high, so the squares together are most when
    what the sum leaves over the lower edges lies in the highest buckets. Above the last edge a single observation may hold all of it.
    """
    lows = [0.0, *found.edges]
    spare = max(0.0, found.total - sum(low * count for low, count in zip(lows, found.counts, strict=True)))
    squares = 0.0
    left = spare
    for low, count, high in reversed(list(zip(lows, found.counts, [*found.edges, lows[-1] + spare], strict=True))):
        taken = min(left, count * (high - low))
        left -= taken
        squares += (low + high) * (low * count + taken) - low * high * count
    return max(0.0, squares - found.total**2 / found.n) / (found.n - 1)
