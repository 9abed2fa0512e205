"""The gate's statistics held against truth, by simulation: coverage, false passes at the margin, power at the printed
effect. `make prove-eval` runs it.

Draws are counted by what they are: a thousand draws of the same table are judged once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import numpy
from numpy.typing import NDArray

from eval.statistics.bootstrap import mean_interval
from eval.statistics.power import effect_of_means, effect_of_outcomes
from eval.statistics.proportions import mcnemar_p, tango_interval

DRAWS = 10_000
SEED = 20_261_125
CONFIDENCE = 0.95
SIZES = (100, 200, 500, 1000, 2000)
DISCORDANCE = (0.05, 0.1, 0.2, 0.4)
MARGINS = (0.02, 0.05, 0.1)
MEAN_DRAWS = 1000  # of means: a bootstrap a draw
Table = tuple[int, float, float]


class Shares(TypedDict):
    """A share by setting, with the lowest and the highest of all."""

    lowest: float
    highest: float
    settings: dict[str, float]


class FalsePasses(TypedDict):
    """Shares of releases that passed by luck. `allowed`: alpha with what the simulation itself may err."""

    highest: float
    mean: float
    alpha: float
    allowed: float
    settings: dict[str, float]


def shares_of(found: dict[str, float]) -> Shares:
    return {"lowest": min(found.values()), "highest": max(found.values()), "settings": found}


def settings(margins: tuple[float, ...]) -> Iterator[Table]:
    """(n, share of discordant pairs, true loss): at least eight discordant pairs are to be expected, and the loss is
    less than all of them."""
    for n in SIZES:
        for discordant in DISCORDANCE:
            yield from ((n, discordant, loss) for loss in margins if n * discordant >= 8 and loss < discordant)


def draw_tables(n: int, discordant: float, loss: float, draws: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Distinct (gained, lost) and how often each came."""
    gained, lost = (discordant - loss) / 2, (discordant + loss) / 2
    random = numpy.random.default_rng([SEED, n, round(1e4 * discordant), round(1e4 * (loss + 1))])
    return numpy.unique(
        random.multinomial(n, [gained, lost, 1 - discordant], size=draws)[:, :2], axis=0, return_counts=True
    )


def coverage(draws: int = DRAWS) -> Shares:
    """Share of 95% intervals that hold the true difference, by setting; `lowest` and `highest` of them."""
    found = {}
    for n, discordant, loss in settings((0.0, *MARGINS)):
        tables, counts = draw_tables(n, discordant, loss, draws)
        low, high = tango_interval(tables[:, 0], tables[:, 1], n, CONFIDENCE)
        found[f"n={n} discordant={discordant} loss={loss}"] = float(
            counts[(low <= -loss) & (-loss <= high)].sum() / draws
        )
    return shares_of(found)


def false_pass_rate(draws: int = DRAWS) -> FalsePasses:
    """Share of releases that lost exactly the margin and passed `non_inferior_to`, by setting; `highest` of them,
    beside alpha and its allowance.

    `allowed`: alpha plus the simulation's own error, at a one-sided 0.1% over each setting.
    """
    alpha, found = (1 - CONFIDENCE) / 2, {}
    for n, discordant, margin in settings(MARGINS):
        tables, counts = draw_tables(n, discordant, margin, draws)
        low, _ = tango_interval(tables[:, 0], tables[:, 1], n, CONFIDENCE)
        found[f"n={n} discordant={discordant} margin={margin}"] = float(counts[low > -margin].sum() / draws)
    allowed = alpha + 3.09 * math.sqrt(alpha * (1 - alpha) / draws)
    return {
        "highest": max(found.values()),
        "mean": float(numpy.mean([*found.values()])),
        "alpha": alpha,
        "allowed": allowed,
        "settings": found,
    }


def power_matches(draws: int = DRAWS) -> Shares:
    """How often the interval leaves 0 out when the true difference is the printed minimum detectable effect: stated as
    80%."""
    found = {}
    for n in SIZES:
        for discordant in DISCORDANCE:
            effect = effect_of_outcomes(discordant, n, CONFIDENCE)
            if effect is None or n * discordant < 8:
                continue
            tables, counts = draw_tables(n, discordant, -effect, draws)
            low, high = tango_interval(tables[:, 0], tables[:, 1], n, CONFIDENCE)
            found[f"n={n} discordant={discordant} effect={effect:.4f}"] = float(
                counts[(low > 0) | (high < 0)].sum() / draws
            )
    return shares_of(found)


def mean_coverage(draws: int = MEAN_DRAWS) -> Shares:
    """The same of BCa intervals of a mean paired difference, of skewed values, 1,000 draws each: a bootstrap takes its
    time."""
    found = {}
    for n in (100, 300):
        random = numpy.random.default_rng([SEED, n])
        values = random.beta(2, 1, size=(draws, n)) - random.beta(2, 1.2, size=(draws, n))
        truth = 2 / 3 - 2 / 3.2
        held = 0
        for row in values:
            low, high, _ = mean_interval(row, CONFIDENCE, 1.0)
            held += low <= truth <= high
        found[f"n={n}"] = held / draws
    return shares_of(found)


def mean_power(draws: int = DRAWS) -> Shares:
    """How often Student's interval leaves 0 out at the printed effect of a mean of normal differences."""
    from scipy import stats

    found = {}
    for n in (50, 200, 1000):
        effect = effect_of_means(1.0, n, CONFIDENCE) or math.nan
        values = numpy.random.default_rng([SEED, n]).normal(effect, 1.0, size=(draws, n))
        error = values.std(axis=1, ddof=1) / math.sqrt(n)
        found[f"n={n} effect={effect:.4f}"] = float(
            (numpy.abs(values.mean(axis=1)) > stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error).mean()
        )
    return shares_of(found)


def references(cases: int = 200) -> dict[str, float]:
    """Largest distance of our p-values and intervals from statsmodels' and scipy's own, on random cases."""
    from scipy.stats import binomtest, bootstrap
    from statsmodels.stats.proportion import proportion_confint

    from eval.statistics.proportions import estimate_share

    random, worst = numpy.random.default_rng(SEED), {"mcnemar": 0.0, "wilson": 0.0, "bca": 0.0}
    for case in range(cases):
        gained, lost = (int(one) for one in random.integers(0, 40, 2))
        exact = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
        worst["mcnemar"] = max(worst["mcnemar"], abs(mcnemar_p(gained, lost) - exact))
        outcomes = (random.random(int(random.integers(5, 300))) < random.random()).astype(float)
        ours = estimate_share(outcomes, CONFIDENCE, 0.5)
        theirs = proportion_confint(outcomes.sum(), len(outcomes), 0.05, method="wilson")
        worst["wilson"] = max(worst["wilson"], abs(ours.low - theirs[0]), abs(ours.high - theirs[1]))
        if case % 10 == 0:
            values = random.exponential(size=int(random.integers(10, 200)))
            low, high, _ = mean_interval(values, CONFIDENCE, 1.0)
            peer = bootstrap((values,), numpy.mean, n_resamples=9999, method="BCa", rng=17).confidence_interval
            worst["bca"] = max(worst["bca"], abs(low - peer.low), abs(high - peer.high))
    return {"worst": max(worst.values()), **worst, "cases": cases}


def main() -> None:
    checks: list[Callable[[], Mapping[str, object]]] = [references]
    checks += [coverage, false_pass_rate, power_matches, mean_power, mean_coverage]
    for function in checks:
        print(function.__name__, json.dumps({name: one for name, one in function().items() if name != "settings"}))


if __name__ == "__main__":
    main()
