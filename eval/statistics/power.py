"""What a comparison could have seen: power, the minimum detectable effect, and how many more examples would decide."""

from __future__ import annotations

import math

POWER = 0.8  # Cohen 1988: the usual chance to see an effect that is there
LIMIT = 10_000_000  # more examples than this is no advice


def normal(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + confidence) / 2))


def discordance(gained: int, lost: int, n: int) -> float:
    """Share of pairs that differ, half a pair added to each of the four cells (Agresti and Min, Statist. Med. 24, 2005, 729): never 0."""
    return (gained + lost + 1) / (n + 2)


def power_of_outcomes(effect: float, discordant: float, n: int, confidence: float) -> float:
    """Chance that Tango's interval leaves 0 out, on the side of a true `effect`: there it is McNemar's score test (gained - lost) / sqrt(gained + lost).

    Exact: the binomial power given the number of discordant pairs, averaged over that number. Normal approximations (Connor 1987) tell up to 8 points
    too little where fewer than twenty pairs are discordant.
    """
    import numpy
    from scipy.stats import binom

    first, last = binom.ppf([1e-10, 1 - 1e-10], n, discordant)
    pairs = numpy.arange(first, last + 1)
    least = (pairs + normal(confidence) * numpy.sqrt(pairs)) / 2  # gained above this is seen
    chances = binom.sf(numpy.floor(least + 1e-9), pairs, min(1.0, (1 + effect / discordant) / 2))
    return float((binom.pmf(pairs, n, discordant) * numpy.where(pairs > 0, chances, 0.0)).sum())


def effect_of_outcomes(discordant: float, n: int, confidence: float) -> float | None:
    """The smallest true difference seen with 80% power; None where not even every discordant pair on one side would be."""
    from scipy.optimize import brentq

    largest = min(discordant, 1.0)
    if power_of_outcomes(largest, discordant, n, confidence) < POWER:
        return None
    return float(brentq(lambda effect: power_of_outcomes(effect, discordant, n, confidence) - POWER, 0.0, largest))


def effect_of_means(deviation: float, n: int, confidence: float) -> float | None:
    """As above for a mean of paired differences, by statsmodels' power of the t-test; `deviation` of one difference.

    Its own solve_power does not converge for some n (1468 is one, statsmodels 0.15): scipy finds the root. Where scipy's noncentral t is
    not a number, far out, the power is 1 but for rounding.
    """
    from scipy.optimize import brentq
    from statsmodels.stats.power import TTestPower

    if n < 3 or not deviation > 0:
        return None

    def power(effect: float) -> float:
        found = float(TTestPower().power(effect, n, 1 - confidence))
        return found if math.isfinite(found) else 1.0

    return deviation * float(brentq(lambda effect: power(effect) - POWER, 0.0, 30 / math.sqrt(n)))


def power_to_pass(distance: float, deviation: float, n: int, confidence: float) -> float | None:
    """Chance that the interval clears a bound that the truth lies `distance` on the right side of (normal approximation)."""
    from scipy.stats import norm

    return float(norm.cdf(distance * math.sqrt(n) / deviation - normal(confidence))) if deviation > 0 else None


def more_examples(distance: float, deviation: float, n: int, confidence: float) -> int | None:
    """How many beyond n decide with 80% power if what was measured, `distance` away from the bound, is the truth; None: no number would."""
    from scipy.stats import norm

    if not deviation > 0 or abs(distance) < 1e-9:
        return None
    needed = ((normal(confidence) + float(norm.ppf(POWER))) * deviation / distance) ** 2
    return max(1, math.ceil(needed) - n) if needed < LIMIT else None
