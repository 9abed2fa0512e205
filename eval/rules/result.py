"""The result of a rule, and what all rules share in finding it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from configs.verdict import Outcome, RuleEvidence, RuleResult
from eval.statistics.comparison import Comparison

EVALUATE = "tunegate evaluate CONFIG"
# What, its figure, its bound, whether that is the least (else the most) it may be.
Limit = tuple[str, float | None, float, bool]
RANK: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


def result(rule: Any, outcome: Outcome, sentence: str, **evidence: object) -> RuleResult:
    """`kind` always; figures that are None or not finite are left out."""
    kept = {
        name: one
        for name, one in evidence.items()
        if one is not None and not (isinstance(one, float) and not math.isfinite(one))
    }
    return RuleResult(
        rule=rule.name, outcome=outcome, sentence=sentence, evidence=cast(RuleEvidence, {"kind": rule.rule, **kept})
    )


def finite(value: object) -> float | None:
    """None for anything that is not a finite number."""
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        else None
    )


def as_object(value: object) -> Mapping[str, object]:
    """A part of metrics.json; empty for anything that is not a JSON object."""
    return value if isinstance(value, dict) else {}


def worst(outcomes: list[Outcome]) -> Outcome:
    """Of no outcome at all: inconclusive."""
    return min(outcomes, key=RANK.__getitem__, default="inconclusive")


def advice(outcome: Outcome, more: int | None) -> str:
    if outcome != "inconclusive":
        return ""
    return (
        f", and about {more:,} more examples would decide"
        if more is not None
        else ", and no number of examples would decide: it is too near"
    )


def decide_limits(rule: Any, limits: list[Limit], missing: str, **facts: object) -> RuleResult:
    """All must hold; a missing figure is inconclusive."""
    outcomes: list[Outcome] = []
    for _, value, bound, least in limits:
        outcomes.append(
            "inconclusive" if value is None else "pass" if (value >= bound if least else value <= bound) else "fail"
        )
    words = [
        f"{what} is {value:.4g}" if value is not None else f"{what} was not measured ({missing})"
        for what, value, _, _ in limits
    ]
    shown = next((limit for limit, one in zip(limits, outcomes, strict=True) if one == worst(outcomes)), None)
    if shown:
        facts |= {
            "metric": shown[0],
            "value": shown[1],
            "bound": shown[2],
            "direction": "at least" if shown[3] else "at most",
        }
    return result(rule, worst(outcomes), f"{'; '.join(words) or f'Nothing was measured ({missing})'}.", **facts)


def describe(found: Comparison) -> RuleEvidence:
    """A comparison as evidence."""
    kept = {name: one for name, one in asdict(found).items() if name not in ("deviation", "p_below", "p_above")}
    return cast(RuleEvidence, kept)
