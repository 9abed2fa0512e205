"""Rules that compare with another release, paired on the same examples: non-inferiority, superiority, slices. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from configs.release import short
from configs.rules.paired import NonInferiorRule, SliceMinimumRule, SuperiorRule
from configs.verdict import Outcome, RuleResult
from eval.metrics.aggregate import figure
from eval.rules.evidence import Evidence, Measured
from eval.rules.quality import EVALUATE, advice, describe, result
from eval.statistics.by_metric import compare, estimate, higher_is_better
from eval.statistics.power import more_examples, power_to_pass

if TYPE_CHECKING:
    from pandas import DataFrame

# What has to be done for these references to be measured.
MEASURED_BY = {
    "base": "set evaluate.baseline: true and run tunegate evaluate CONFIG",
    "parent": "set quantize.compare_parent: true and run tunegate run CONFIG",
}


def reference_of(reference: str, measured: Measured, evidence: Evidence) -> Measured | tuple[Outcome, str]:
    """What was measured of the reference on the same rows, or why it is not to be compared with."""
    known = "the " + reference if reference in ("champion", "base", "parent") else short(reference)
    if reference == "champion" and evidence.champion is None:
        return "pass", "Nothing is pinned in production: a first release has no champion to be worse than."
    other = evidence.references.get(reference)
    if other is None:
        command = {"champion": f"tunegate releases fetch {evidence.champion}", **MEASURED_BY}.get(reference, EVALUATE)
        return "inconclusive", f"No evaluation of {known} was found: {command}."
    found = other.record.get("release")
    wanted = evidence.champion if reference == "champion" else reference if "@" in reference else None
    if wanted is not None and found != wanted:
        return "fail", f"The evaluation of {known} is of {found}, not of {wanted}."
    if reference == "base" and evidence.base is not None and not str(found).endswith(evidence.base):
        return "fail", f"The base's evaluation is of {found}, not of {evidence.base}: {EVALUATE}."
    if not measured.record.get("dataset") or measured.record["dataset"] != other.record.get("dataset"):
        return "inconclusive", f"{known[:1].upper()}{known[1:]} was measured on other test rows: {EVALUATE}."
    return other


def decide_comparing(rule: NonInferiorRule | SuperiorRule, measured: Measured, evidence: Evidence) -> RuleResult:
    facts: dict[str, Any] = {"metric": rule.metric, "reference": rule.reference, "margin": rule.margin}
    other = reference_of(rule.reference, measured, evidence)
    if isinstance(other, tuple):
        return result(rule, other[0], other[1], **facts)
    if measured.frame is None or other.frame is None:
        return result(rule, "inconclusive", f"{rule.metric} has no per-example outcomes on both sides: {EVALUATE}.", **facts)
    try:
        found = compare(rule.metric, measured.frame, other.frame, rule.confidence, rule.margin)
        facts |= {"value": figure(rule.metric, measured.frame), "reference_value": figure(rule.metric, other.frame)}
    except ValueError as error:
        return result(rule, "inconclusive", f"The examples cannot be paired ({error}): {EVALUATE}.", **facts)
    bound = rule.margin if isinstance(rule, SuperiorRule) else -rule.margin
    better = higher_is_better(rule.metric)
    low, high = (found.low, found.high) if better else (-found.high, -found.low)
    outcome: Outcome = "pass" if low > bound else "fail" if high < bound else "inconclusive"
    distance = (found.difference if better else -found.difference) - bound
    more = more_examples(distance, found.deviation, found.n, rule.confidence) if outcome == "inconclusive" else None
    facts |= describe(found) | {"bound": signed(bound, better), "direction": "at least" if better else "at most", "more_examples": more}
    facts["power"] = power_to_pass(abs(bound), found.deviation, found.n, rule.confidence) if isinstance(rule, NonInferiorRule) else None
    return result(rule, outcome, sentence_of(rule.metric, found, facts, outcome, better), **facts)


def signed(bound: float, better: bool) -> float:
    return 0.0 + (bound if better else -bound)


def sentence_of(metric: str, found: Any, facts: dict[str, Any], outcome: Outcome, better: bool) -> str:
    sides = {"pass": "lies above" if better else "lies below", "fail": "lies below" if better else "lies above", "inconclusive": "spans"}
    interval = f"{found.confidence:.0%} interval [{found.low:+.3f}, {found.high:+.3f}] {sides[outcome]} {facts['bound']:+.3f}"
    least = facts["minimum_detectable_effect"]
    seen = f" A difference of {least:.3f} would be seen with 80% power." if least is not None else ""
    tail = advice(outcome, facts["more_examples"])
    return f"{metric} differs by {found.difference:+.3f} on {found.n} examples; its {interval}{tail}.{seen}"


def decide_slices(rule: SliceMinimumRule, measured: Measured, evidence: Evidence) -> RuleResult:
    facts: dict[str, Any] = {"metric": rule.metric, "reference": rule.reference, "confidence": rule.confidence}
    other = reference_of(rule.reference, measured, evidence) if rule.reference else None
    if isinstance(other, tuple):
        return result(rule, other[0], other[1], **facts)
    theirs = other.frame if other else None
    if measured.frame is None or (rule.reference and theirs is None):
        return result(rule, "inconclusive", f"{rule.metric} has no per-example outcomes: {EVALUATE}.", **facts)
    parts = {name: part for name, part in slices_of(measured.frame).items() if any(fnmatchcase(name, pattern) for pattern in rule.slices)}
    missing = [one for one in rule.slices if not any(fnmatchcase(name, one) for name in parts)]
    if missing:
        return result(rule, "inconclusive", f"No slice is named {', '.join(missing)}: see evaluate.slices, then {EVALUATE}.", **facts)
    large = {name: part for name, part in parts.items() if len(part) >= rule.minimum_size}
    if not large:
        return result(rule, "inconclusive", f"No slice has {rule.minimum_size} examples: {max(map(len, parts.values()))} at most.", **facts)
    try:
        rows = [judge_slice(rule, name, part, theirs) for name, part in large.items()]
    except ValueError as error:
        return result(rule, "inconclusive", f"The slices cannot be judged ({error}): {EVALUATE}.", **facts)
    return weigh_slices(rule, adjust(rows), sorted(parts.keys() - large.keys()), facts)


def slices_of(predictions: DataFrame) -> dict[str, DataFrame]:
    if "slices" not in predictions:
        return {}
    named = predictions["slices"].explode().dropna()
    return {str(name): predictions.loc[rows.index] for name, rows in named.groupby(named)}


def judge_slice(rule: SliceMinimumRule, name: str, part: DataFrame, theirs: DataFrame | None) -> dict[str, Any]:
    """`room`: how far the figure lies on the right side of its bound. `p_value`: one-sided, of the slice being good enough."""
    better = higher_is_better(rule.metric)
    if theirs is not None and rule.margin is not None:
        paired = compare(rule.metric, part, theirs[theirs["id"].isin(part["id"])], rule.confidence, rule.margin)
        room = (paired.difference if better else -paired.difference) + rule.margin
        row = {"difference": paired.difference, "low": paired.low, "high": paired.high, "p_value": paired.p_worse, "deviation": paired.deviation}
        return {"name": name, "n": paired.n, **row, "room": room}
    bound = rule.minimum or 0.0
    found = estimate(rule.metric, part, rule.confidence, bound)
    p_value = found.p_below if better else 1 - found.p_below
    room = (found.value - bound) * (1 if better else -1)
    return {"name": name, "n": found.n, "value": found.value, "low": found.low, "high": found.high, "p_value": p_value, "room": room}


def adjust(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Holm's correction (1979) by statsmodels; the slice with the least room first."""
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests([row["p_value"] for row in rows], method="holm")[1]
    joined = [row | {"p_adjusted": float(p)} for row, p in zip(rows, adjusted, strict=True)]
    return sorted(joined, key=lambda row: (row["room"], row["name"]))


def weigh_slices(rule: SliceMinimumRule, rows: list[dict[str, Any]], small: list[str], facts: dict[str, Any]) -> RuleResult:
    """Fails on a slice that is shown to lie short of its bound; one that only seems to is inconclusive."""
    alpha, worst = (1 - rule.confidence) / 2, rows[0]
    shown = [row for row in rows if row["room"] < 0 and row["p_adjusted"] < alpha]
    outcome: Outcome = "fail" if shown else "inconclusive" if worst["room"] < 0 else "pass"
    named = shown[0] if shown else worst
    figure_ = f"{named['difference']:+.3f} against {short(str(rule.reference))}" if "difference" in named else f"{named['value']:.4g}"
    sentence = f"{len(rows)} slices judged; the worst, {named['name']}, has {rule.metric} {figure_} on {named['n']} examples (Holm p {named['p_adjusted']:.3g})"
    more = more_examples(worst["room"], worst["deviation"], worst["n"], rule.confidence) if outcome == "inconclusive" and "deviation" in worst else None
    sentence += f"; about {more:,} more of that slice would decide" if more is not None else ""
    sentence += f"; too small to judge: {', '.join(small[:5])}{' and others' if len(small) > 5 else ''}" if small else ""
    kept = [{name: one for name, one in row.items() if name not in ("room", "deviation")} for row in rows]
    higher = higher_is_better(rule.metric)
    bound = rule.minimum if rule.minimum is not None else signed(-(rule.margin or 0.0), higher)
    shared = {"bound": bound, "direction": "at least" if higher else "at most", "more_examples": more, "method": "one-sided p, Holm over slices"}
    return result(rule, outcome, f"{sentence}.", **facts, **shared, **{key: named[key] for key in ("low", "high", "n") if key in named}, slices=kept)
