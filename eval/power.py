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
    """Chance that the paired interval leaves 0 out at a true `effect` (Connor, Biometrics 43, 1987, 207; normal approximation)."""
    from scipy.stats import norm

    spread = math.sqrt(max(discordant - effect**2, 1e-12))
    return float(norm.cdf((effect * math.sqrt(n) - normal(confidence) * math.sqrt(discordant)) / spread))


def effect_of_outcomes(discordant: float, n: int, confidence: float) -> float | None:
    """The smallest true difference seen with 80% power; None where not even every discordant pair on one side would be."""
    from scipy.optimize import brentq

    largest = min(discordant, 1.0)
    if power_of_outcomes(largest, discordant, n, confidence) < POWER:
        return None
    return float(brentq(lambda effect: power_of_outcomes(effect, discordant, n, confidence) - POWER, 0.0, largest))


def effect_of_means(deviation: float, n: int, confidence: float) -> float | None:
    """As above for a mean of paired differences, by statsmodels' power of the t-test; `deviation` of one difference."""
    from statsmodels.stats.power import TTestPower

    if n < 3 or not deviation > 0:
        return None
    found = float(TTestPower().solve_power(effect_size=None, nobs=n, alpha=1 - confidence, power=POWER, alternative="two-sided"))
    return found * deviation if math.isfinite(found) else None


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
