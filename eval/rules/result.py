"""The result of a rule, and what all rules share in finding it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from configs.verdict import Outcome, RuleEvidence, RuleResult
from eval.rules.interval import Limit
from eval.statistics.comparison import Comparison

EVALUATE = "tunegate evaluate CONFIG"
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
    """All must hold; the one that decides is the one that the evidence shows. `missing`: the command for what was not
    measured."""
    outcome = worst([one.outcome for one in limits])
    decides = min((one for one in limits if one.outcome == outcome), key=lambda one: one.surplus, default=None)
    sentence = "; ".join(one.words(missing) for one in limits) or f"Nothing was measured ({missing})"
    if decides is not None:
        facts |= decides.evidence()
        sentence += advice(outcome, decides.more_examples) if decides.interval and not decides.point else ""
    return result(rule, outcome, f"{sentence}.", **facts)


def describe(found: Comparison) -> RuleEvidence:
    """A comparison as evidence."""
    kept = {
        name: one
        for name, one in asdict(found).items()
        if name not in ("deviation", "p_below", "p_above", "scale", "clusters")
    }
    return cast(RuleEvidence, kept)
