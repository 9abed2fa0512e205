"""Decides the rules about behaviour tests: each perturbation of each test by itself, for a mean over them would hide
the one that breaks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from configs.metrics import BehaviourFigures, MetricDefinition
from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.run.metrics import METRICS
from configs.verdict import RuleResult
from eval.metrics.samples import select
from eval.rules.evidence import Measured
from eval.rules.figures import as_definition, compare_samples, estimate_samples
from eval.rules.groups import decide_groups
from eval.rules.interval import Found, Limit, found_of
from eval.rules.result import EVALUATE, as_object, decide_limits, finite, result

if TYPE_CHECKING:
    from pandas import DataFrame

KINDS = {"robustness": ("robustness", "directional", "abstention"), "fairness": ("invariance",)}
BINARY: MetricDefinition = {"kind": "binary", "low": 0, "high": 1, "higher_is_better": True}


def decide_behaviour(rule: RobustnessRule | FairnessRule, measured: Measured) -> RuleResult:
    if isinstance(rule, FairnessRule) and rule.metric is not None:
        return decide_groups(rule, measured)
    known = as_object(measured.record.get("behaviour"))
    tests = {name: cast(BehaviourFigures, one) for name, one in known.items() if isinstance(one, dict)}
    wanted = {
        name: one
        for name, one in tests.items()
        if one.get("kind") in KINDS[rule.rule] and (rule.test is None or name == rule.test)
    }
    if not wanted:
        others = f"; measured: {', '.join(tests)}" if tests else ""
        return result(
            rule,
            "inconclusive",
            f"No such behaviour test was measured{others}: add it to evaluate.behaviour, then {EVALUATE}.",
        )
    limits = [limit for name, one in wanted.items() for limit in limits_of(rule, name, one, measured)]
    return decide_limits(rule, limits, EVALUATE)


def limits_of(
    rule: RobustnessRule | FairnessRule, name: str, test: BehaviourFigures, measured: Measured
) -> Iterator[Limit]:
    """Of directional and abstention tests only the drop is asked for where all tests are; abstention has nothing
    else."""
    if isinstance(rule, FairnessRule):
        asked = {"gap": rule.maximum_gap, "flip rate": rule.maximum_flip_rate}
    else:
        flips = rule.test is not None or test.get("kind") == "robustness"
        asked = {"drop": rule.maximum_drop, "flip rate": rule.maximum_flip_rate if flips else None}
    for figure, most in asked.items():
        if most is None:
            continue
        parts = parts_of(name, measured)
        for part, samples in parts.items():
            value, found = figure_of(figure, test, samples, rule.confidence)
            yield Limit(f"{name} {part} {figure}", value, most, False, found, rule.point)
        if not parts:
            yield Limit(f"{name} {figure}", None, most, False)


def parts_of(name: str, measured: Measured) -> dict[str, DataFrame]:
    """The samples of one test by perturbation, group or edit; not those of an abstention test's ordinary rows."""
    if measured.samples is None:
        return {}
    beginning = f"behaviour:{name}:"
    rows = measured.samples[measured.samples["source"].str.startswith(beginning)]
    parts = {str(source).removeprefix(beginning): part for source, part in rows.groupby("source", sort=False)}
    return {part: samples for part, samples in parts.items() if part != "ordinary"}


def figure_of(figure: str, test: BehaviourFigures, samples: DataFrame, confidence: float) -> tuple[float | None, Found]:
    """And its interval; None where this kind of test has no such figure, or a sample is no number."""

    def of(metric: str) -> DataFrame:
        return select(samples, str(samples["source"].iloc[0]), metric).sort_values("id", ignore_index=True)

    known = outcome_of(test)
    if figure == "drop" and test.get("kind") == "robustness":
        before, after = (
            (of("original"), of("changed")) if known["higher_is_better"] else (of("changed"), of("original"))
        )
        value = finite(float(before["value"].mean(skipna=False) - after["value"].mean(skipna=False)))
        return value, found_of(lambda: compare_samples(before, after, known, confidence).as_estimate())
    if figure == "drop":
        kept = of("moved" if test.get("kind") == "directional" else "abstained")
        missed = kept.assign(value=1 - kept["value"])
        return finite(float(missed["value"].mean(skipna=False))), found_of(
            lambda: estimate_samples(missed, BINARY, confidence)
        )
    found, known = (of("gap"), known) if figure == "gap" else (of("flipped"), BINARY)
    return finite(float(found["value"].mean(skipna=False))), found_of(
        lambda: estimate_samples(found, known, confidence)
    )


def outcome_of(test: BehaviourFigures) -> MetricDefinition:
    """What an outcome of this test is, by its `metric`: a metric of rows, probability:LABEL, matches, value."""
    name = str(test.get("metric"))
    if name in METRICS:
        return as_definition(METRICS[name])
    if name.startswith("probability:"):
        return BINARY | {"kind": "bounded"}
    return BINARY if name == "matches" else {"kind": "unbounded", "low": 0, "high": None, "higher_is_better": False}
