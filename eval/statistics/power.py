"""What a comparison could have seen: power, the minimum detectable effect, and how many more examples would decide."""

from __future__ import annotations

import math

from eval.statistics.tango import score

POWER = 0.8  # Cohen 1988: the usual chance to see an effect that is there
LIMIT = 10_000_000  # more examples than this is no advice
FEW_PAIRS = 60


def critical_value(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + confidence) / 2))


def discordance(gained: int, lost: int, n: int) -> float:
    """Share of pairs that differ, half a pair added to each of the four cells (Agresti and Min, Statist. Med. 24, 2005,
    729): never 0."""
    return (gained + lost + 1) / (n + 2)


def power_of_outcomes(effect: float, discordant: float, n: int, confidence: float) -> float:
    """Chance that Tango's interval leaves 0 out, on the side of a true `effect`: there it is McNemar's score test
    (gained - lost) / sqrt(gained + lost).

    Exact: the binomial power given the number of discordant pairs, averaged over that number. Normal approximations
    (Connor 1987) tell up to 8 points too little where fewer than twenty pairs are discordant.
    """
    import numpy
    from scipy.stats import binom

    first, last = binom.ppf([1e-10, 1 - 1e-10], n, discordant)
    pairs = numpy.arange(first, last + 1)
    least = (pairs + critical_value(confidence) * numpy.sqrt(pairs)) / 2  # gained above this is seen
    chances = binom.sf(numpy.floor(least + 1e-9), pairs, min(1.0, (1 + effect / discordant) / 2))
    return float((binom.pmf(pairs, n, discordant) * numpy.where(pairs > 0, chances, 0.0)).sum())


def effect_of_outcomes(discordant: float, n: int, confidence: float) -> float | None:
    """The smallest true difference seen with 80% power; None where not even every discordant pair on one side would
    be."""
    from scipy.optimize import brentq

    largest = min(discordant, 1.0)
    if power_of_outcomes(largest, discordant, n, confidence) < POWER:
        return None
    return float(brentq(lambda effect: power_of_outcomes(effect, discordant, n, confidence) - POWER, 0.0, largest))


def effect_of_means(deviation: float, n: int, confidence: float) -> float | None:
    """As above for a mean of paired differences, by statsmodels' power of the t-test; `deviation` of one difference.

    Its own solve_power does not converge for some n (1468 is one, statsmodels 0.15): scipy finds the root. Where
    scipy's noncentral t is not a number, far out, the power is 1 but for rounding.
    """
    from scipy.optimize import brentq
    from statsmodels.stats.power import TTestPower

    if n < 3 or not deviation > 0:
        return None

    def power(effect: float) -> float:
        found = float(TTestPower().power(effect, n, 1 - confidence))
        return found if math.isfinite(found) else 1.0

    return deviation * float(brentq(lambda effect: power(effect) - POWER, 0.0, 30 / math.sqrt(n)))


def power_to_pass(
    distance: float,
    deviation: float,
    n: int,
    confidence: float,
    scale: float = 0.0,
    pairs: tuple[int, int] | None = None,
) -> float | None:
    """Chance that the interval clears a bound that the truth lies `distance` on the right side of; `scale`: how far an
    unseen example may lie, which is the width that is left where none differ. `pairs`: gained and lost, of outcomes:
    then as many are taken to be gained as lost, and the chance is exact where few are."""
    if pairs is not None:
        half = discordance(*pairs, n) / 2
        return chance_of_outcomes(half, half, n, -distance, confidence)
    return chance_to_clear(distance, deviation, n, confidence, scale) if deviation > 0 else None


def more_examples(
    distance: float,
    deviation: float,
    n: int,
    confidence: float,
    scale: float = 0.0,
    pairs: tuple[int, int] | None = None,
) -> int | None:
    """How many beyond n decide with 80% power if what was measured, `distance` beyond the bound or short of it, is the
    truth; None: no number would. `scale` and `pairs` as in `power_to_pass`, `pairs` as they came."""
    if abs(distance) < 1e-9 or (pairs is None and not deviation > 0):
        return None

    def chance(count: int) -> float:
        if pairs is None:
            return chance_to_clear(abs(distance), deviation, count, confidence, scale)
        gained, lost = pairs if distance > 0 else pairs[::-1]
        likely, unlikely = (gained + 0.5) / (n + 2), (lost + 0.5) / (n + 2)
        return chance_of_outcomes(likely, unlikely, count, (gained - lost) / n - abs(distance), confidence)

    low = high = n
    while chance(high) < POWER:
        low, high = high, 2 * high
        if high > LIMIT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return max(1, high - n)


def chance_to_clear(distance: float, deviation: float, n: int, confidence: float, scale: float) -> float:
    """By the normal distribution; the interval is at least as wide as where no example differs."""
    from scipy.special import ndtr

    z = critical_value(confidence)
    width = max(z * deviation / math.sqrt(n), scale * z * z / (n + z * z))
    return float(ndtr((distance - width) * math.sqrt(n) / deviation))


def chance_of_outcomes(gained: float, lost: float, n: int, bound: float, confidence: float) -> float:
    """Chance that Tango's interval lies above `bound`, where these are the true shares of pairs gained and lost: exact,
    over all tables, where few pairs are discordant; beyond that by the normal distribution."""
    import numpy
    from scipy.special import gammaln, ndtr, xlogy

    alike, z = max(1 - gained - lost, 0.0), critical_value(confidence)
    if n * (gained + lost) > FEW_PAIRS:
        distance, spread = gained - lost - bound, math.sqrt((gained + lost - (gained - lost) ** 2) / n)
        return float(ndtr(distance / spread - z)) if spread > 0 else float(distance > 0)
    ones, others = (numpy.arange(min(n, int(n * one + 8 * math.sqrt(n * one) + 12)) + 1) for one in (gained, lost))
    up, down = (one[numpy.add(*numpy.ix_(ones, others)) <= n] for one in numpy.meshgrid(ones, others, indexing="ij"))
    rest = n - up - down
    chances = numpy.exp(
        gammaln(n + 1) - gammaln(up + 1) - gammaln(down + 1) - gammaln(rest + 1)
        + xlogy(up, gained) + xlogy(down, lost) + xlogy(rest, alike)
    )  # fmt: skip
    return float(chances[score(up, down, n, bound) > z].sum())
