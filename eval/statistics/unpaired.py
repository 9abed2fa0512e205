"""Two systems under different requests, as traffic gives them: nothing is paired. Intervals of what one shows beyond
the other."""

from __future__ import annotations

import math


def share_difference(
    count: float, n: float, other_count: float, other_n: float, confidence: float
) -> tuple[float, float]:
    """Of one share minus the other: exact bounds (Clopper and Pearson 1934) of each, half of what may err spent on
    either.

    Wider than a score interval, and never wrong oftener than it says: failures are rare, and the normal tail that a
    score interval relies on takes 2 failures of 20 against none for a chance of 3 in 100,000 where it is 2 in 100.
    Counts that were standardised need not be whole.
    """
    (low, high), (other_low, other_high) = (
        clopper_pearson(count, n, (1 + confidence) / 2),
        clopper_pearson(other_count, other_n, (1 + confidence) / 2),
    )
    return low - other_high, high - other_low


def clopper_pearson(count: float, n: float, confidence: float) -> tuple[float, float]:
    from scipy.special import (
        betainccinv,
        betaincinv,
    )  # the watch asks every second: scipy.stats takes a hundred times as long to say the same

    tail = (1 - confidence) / 2
    low = float(betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(betainccinv(count + 1, n - count, tail)) if count < n else 1.0
    return low, high


def mean_difference(
    mean: float,
    variance: float,
    n: float,
    other_mean: float,
    other_variance: float,
    other_n: float,
    ratio: float,
    confidence: float,
) -> tuple[float, float]:
    """Of one mean minus `ratio` times the other: Welch's t interval (1947), for only sums and variances are known of
    what a server counted."""
    from scipy.special import stdtrit

    one, other = variance / n, ratio**2 * other_variance / other_n
    difference, error = mean - ratio * other_mean, math.sqrt(one + other)
    if not error:
        return difference, difference
    share = one / (one + other)  # of shares, for the square of a tiny variance is 0
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (other_n - 1))
    width = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return difference - width, difference + width
