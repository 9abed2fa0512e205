"""The rule on groups of labelled rows: a label is given, rightly and wrongly, as often to one group as to another.
Pure."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from configs.rules.behaviour import FairnessRule
from configs.verdict import RuleEvidence, RuleResult
from eval.metrics.groups import conditions, flagged, group_difference
from eval.rules.evidence import Measured
from eval.rules.figures import of_folds
from eval.rules.interval import Limit, found_of
from eval.rules.result import EVALUATE, decide_limits, result
from eval.statistics.comparison import Estimate
from eval.statistics.figures import estimate_figure
from eval.statistics.looks import confidence_of_each
from eval.statistics.values import codes_of
from eval.statistics.weighted import rate_difference

if TYPE_CHECKING:
    from pandas import DataFrame


def decide_groups(rule: FairnessRule, measured: Measured) -> RuleResult:
    """Groups of fewer than minimum_size rows are named, not judged."""
    name = f"group:{rule.column}"
    if measured.frame is None or name not in measured.frame:
        reason = f"No groups by {rule.column} were measured: add it to evaluate.groups, then {EVALUATE}."
        return result(rule, "inconclusive", reason, metric=rule.metric)
    if not {"gold", "answer"} <= {*measured.frame} or "entities" in measured.frame:
        return result(rule, "inconclusive", "These rows have no labels.", metric=rule.metric)
    rows = flagged(measured.frame, name, str(rule.label))
    parts = conditions(str(rule.metric), rows)
    sizes = {
        group: min(int((part["group"] == group).sum()) for part in parts) for group in sorted(rows["group"].unique())
    }
    judged = [group for group, size in sizes.items() if size >= rule.minimum_size]
    small = [group for group in sizes if group not in judged]
    facts: RuleEvidence = {"metric": str(rule.metric), "too_small": small}
    told = f"; too small to judge: {', '.join(small[:5])}{' and others' if len(small) > 5 else ''}" if small else ""
    if len(judged) < 2:
        reason = f"Fewer than two groups by {rule.column} can be judged, of {rule.minimum_size} rows each{told}."
        return result(rule, "inconclusive", reason, **facts)
    parts = conditions(str(rule.metric), rows[rows["group"].isin(judged)])
    value, found = group_difference(parts), found_of(lambda: largest_difference(parts, judged, rule.confidence))
    what = f"{rule.metric} of {rule.label} by {rule.column}"
    limit = Limit(what, value, float(rule.maximum_difference or 0.0), False, found, rule.point)
    decided = decide_limits(rule, [limit], EVALUATE, **facts)
    return decided.model_copy(update={"sentence": f"{decided.sentence.removesuffix('.')}{told}."})


def largest_difference(parts: list[DataFrame], groups: list[str], confidence: float) -> Estimate:
    """The interval of the largest absolute difference of two groups' rates. Upper end: the largest of the pairs' own,
    for the pair that truly differs most is among them (intersection-union: Berger 1982). Lower end: the largest of the
    pairs' at a confidence corrected for how many there are (Bonferroni), so that noise among many groups is no
    difference. Raises ValueError where one has no interval."""
    pairs = [(part, one, other) for part in parts for one, other in combinations(groups, 2)]
    found = [difference_of(part, one, other, confidence) for part, one, other in pairs]
    each = confidence_of_each(confidence, len(pairs))
    strict = [difference_of(part, one, other, each) for part, one, other in pairs] if len(pairs) > 1 else found
    largest = max(found, key=lambda one: abs(one.value))
    return Estimate(
        abs(largest.value),
        min(max(0.0, *(max(one.low, -one.high) for one in strict)), abs(largest.value)),
        max(max(-one.low, one.high) for one in found),
        confidence,
        sum(len(part) for part in parts),
        f"{largest.method}, the largest of {len(pairs)} pairs",
        deviation=largest.deviation,
        scale=largest.scale,
    )


def difference_of(rows: DataFrame, one: str, other: str, confidence: float) -> Estimate:
    """Of the rates of two groups, by the bootstrap over clusters. Raises ValueError for too few."""
    both = rows[rows["group"].isin([one, other])].sort_values("id", ignore_index=True)
    first, second = ((both["group"] == name).to_numpy(dtype=float) for name in (one, other))
    found = rate_difference(both["given"].to_numpy(dtype=float), first, second)
    clusters = both["cluster"].fillna(both["id"]).to_numpy() if "cluster" in both else None
    whole = estimate_figure(found, codes_of(clusters, len(both)), confidence, 0.0)
    return of_folds(whole, both, lambda part: rate_of(part, one) - rate_of(part, other), (-1.0, 1.0))


def rate_of(rows: DataFrame, group: str) -> float:
    """How often the label is given to rows of the group; nan where there are none."""
    return float(rows.loc[rows["group"] == group, "given"].mean())
