"""The gate's statistics held against truth, by simulation: coverage, false passes at the margin, power at the printed
effect. `make prove-eval` runs it.

Draws are counted by what they are: a thousand draws of the same table are judged once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import numpy
from numpy.typing import NDArray

from eval.statistics.power import effect_of_means, effect_of_outcomes
from eval.statistics.proportions import mcnemar_p
from eval.statistics.tango import tango_interval

DRAWS = 10_000
SEED = 20_261_125
CONFIDENCE = 0.95
SIZES = (100, 200, 500, 1000, 2000)
DISCORDANCE = (0.05, 0.1, 0.2, 0.4)
MARGINS = (0.02, 0.05, 0.1)
# Examples, gained, lost and the bound, of verdicts that were open.
ADVISED = (
    (60, 0, 0, -0.05),
    (100, 1, 2, -0.05),
    (200, 10, 14, -0.05),
    (500, 20, 30, -0.04),
    (80, 2, 9, -0.02),
    (300, 0, 4, 0.0),
)
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
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    from eval.statistics.proportions import estimate_proportion

    random, worst = numpy.random.default_rng(SEED), {"mcnemar": 0.0, "clopper_pearson": 0.0}
    for _ in range(cases):
        gained, lost = (int(one) for one in random.integers(0, 40, 2))
        exact = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
        worst["mcnemar"] = max(worst["mcnemar"], abs(mcnemar_p(gained, lost) - exact))
        outcomes = (random.random(int(random.integers(5, 300))) < random.random()).astype(float)
        ours = estimate_proportion(outcomes, CONFIDENCE, 0.5)
        theirs = proportion_confint(outcomes.sum(), len(outcomes), 0.05, method="beta")
        worst["clopper_pearson"] = max(worst["clopper_pearson"], abs(ours.low - theirs[0]), abs(ours.high - theirs[1]))
    return {"worst": max(worst.values()), **worst, "cases": cases}


def looks(draws: int = DRAWS, spent: bool = True) -> float:
    """Share of releases that lost exactly the margin and passed at one at least of six looks at the same test set, each
    with 100 rows more than the last. `spent`: alpha spent over the looks; else each look judged as if it were the
    first."""
    from eval.statistics.looks import confidence_at

    margin, gained, lost = 0.05, 0.05, 0.1
    random = numpy.random.default_rng([SEED, 6])
    totals, passed = numpy.zeros((draws, 2)), numpy.zeros(draws, dtype=bool)
    for look in range(1, 7):
        totals += random.multinomial(100, [gained, lost, 1 - gained - lost], size=draws)[:, :2]
        confidence = confidence_at(CONFIDENCE, look) if spent else CONFIDENCE
        tables, place = numpy.unique(totals, axis=0, return_inverse=True)
        low, _ = tango_interval(tables[:, 0], tables[:, 1], 100 * look, confidence)
        passed |= (low > -margin)[place.reshape(-1)]
    return float(passed.mean())


def advice_decides(draws: int = 4000) -> Shares:
    """How often a release of which "N more examples would decide" was said is decided, were what was measured the
    truth: stated as 80%."""
    from eval.statistics.power import more_examples

    found = {}
    for n, gained, lost, bound in ADVISED:
        more = more_examples((gained - lost) / n - bound, 1.0, n, CONFIDENCE, pairs=(gained, lost))
        if more is None:
            continue
        shares = [(gained + 0.5) / (n + 2), (lost + 0.5) / (n + 2)]
        random = numpy.random.default_rng([SEED, n, gained, lost])
        tables = random.multinomial(n + more, [*shares, 1 - sum(shares)], size=draws)
        low, high = tango_interval(tables[:, 0], tables[:, 1], n + more, CONFIDENCE)
        decided = low > bound if (gained - lost) / n > bound else high < bound
        found[f"n={n} gained={gained} lost={lost} bound={bound} more={more}"] = float(decided.mean())
    return shares_of(found)


def main() -> None:
    """`python -m benchmarks.eval.statistics KIND [DRAWS]` simulates the cells of one kind of metric; without a kind the
    rest is shown."""
    if sys.argv[1:]:
        from benchmarks.eval.cell_table import show

        show(sys.argv[1], int((sys.argv[2:] or [str(DRAWS)])[0]))
        return
    checks: list[Callable[[], Mapping[str, object]]] = [
        references,
        coverage,
        false_pass_rate,
        power_matches,
        mean_power,
    ]
    for function in (*checks, advice_decides):
        print(function.__name__, json.dumps({name: one for name, one in function().items() if name != "settings"}))
    print("looks", looks(), "as if each were the first", looks(spent=False))


if __name__ == "__main__":
    main()
