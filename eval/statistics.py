"""Two systems on the same examples: the paired difference, its interval, and exact McNemar's p."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PairedDifference:
    """release minus reference over n shared 0/1 outcomes; gained and lost are the discordant pairs."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    gained: int
    lost: int
    method: str = "Newcombe 1998 method 10 (paired score interval), exact McNemar p"


def compare(release: dict[str, float], reference: dict[str, float], confidence: float) -> PairedDifference:
    """Joined by id. Raises ValueError unless both hold the same ids and every value is 0 or 1."""
    if release.keys() != reference.keys() or not release:
        raise ValueError(f"{len(release.keys() ^ reference.keys())} examples are not shared")
    if not {*release.values(), *reference.values()} <= {0.0, 1.0}:
        raise ValueError("values other than 0 and 1")
    pairs = [(release[key], reference[key]) for key in release]
    both, gained, lost = pairs.count((1.0, 1.0)), pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0))
    low, high = newcombe_interval(both, gained, lost, len(pairs) - both - gained - lost, confidence)
    return PairedDifference((gained - lost) / len(pairs), low, high, mcnemar_p(gained, lost), len(pairs), gained, lost)


def newcombe_interval(both: int, gained: int, lost: int, neither: int, confidence: float) -> tuple[float, float]:
    """Newcombe RG, Statist. Med. 17 (1998) 2635, method 10: Wilson intervals, squared and added, less their correlation.

    Stays wide (never of zero width) when no pair is discordant, where a bootstrap would collapse.
    """
    from statsmodels.stats.proportion import proportion_confint

    n = both + gained + lost + neither
    first, second = (both + gained) / n, (both + lost) / n
    low1, high1 = proportion_confint(both + gained, n, alpha=1 - confidence, method="wilson")
    low2, high2 = proportion_confint(both + lost, n, alpha=1 - confidence, method="wilson")
    phi = corrected_phi(both, gained, lost, neither)
    below = spread(first - low1, high2 - second, phi)
    above = spread(high1 - first, second - low2, phi)
    return max(-1.0, first - second - below), min(1.0, first - second + above)


def spread(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def corrected_phi(both: int, gained: int, lost: int, neither: int) -> float:
    """Method 10's phi: a positive association is corrected for continuity by n/2; 0 where a margin is empty."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = float(both * neither - gained * lost)
    if cross > 0:
        cross = max(cross - (both + gained + lost + neither) / 2, 0.0)
    return cross / math.sqrt(margins) if margins else 0.0


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact (binomial) McNemar, by statsmodels; 1 when no pair is discordant."""
    from statsmodels.stats.contingency_tables import mcnemar

    return min(1.0, float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)) if gained + lost else 1.0
