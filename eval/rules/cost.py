"""Rules on what was measured beside the test rows: behaviour tests, and the load test of a deployment. Pure."""

from __future__ import annotations

from typing import Any

from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.rules.cost import GoodputRule, LatencyRule
from configs.verdict import RuleResult
from eval.rules.evidence import Measured
from eval.rules.quality import EVALUATE, Limit, decide_limits, number, result, section

LOADTEST = "tunegate loadtest ENV"
NOTHING_ELSE = "Nothing else serves: there is no blue to be compared with."
KINDS = {"robustness": ("robustness", "directional", "abstention"), "fairness": ("invariance",)}


def decide_behaviour(rule: RobustnessRule | FairnessRule, measured: Measured) -> RuleResult:
    """Of the tests that the rule names, the one that is furthest over its limit is shown."""
    tests = {name: one for name, one in section(measured, "behaviour").items() if isinstance(one, dict)}
    wanted = {name: one for name, one in tests.items() if (name == rule.test if rule.test else one.get("kind") in KINDS[rule.rule])}
    if not wanted:
        known = f"; measured: {', '.join(tests)}" if tests else ""
        return result(rule, "inconclusive", f"No such behaviour test was measured{known}: add it to evaluate.behaviour, then {EVALUATE}.")
    limits = [limit for name, one in wanted.items() for limit in limits_of(rule, name, one)]
    return decide_limits(rule, limits, EVALUATE, n=sum(int(number(one.get("n")) or 0) for one in wanted.values()))


def limits_of(rule: RobustnessRule | FairnessRule, name: str, test: dict[str, Any]) -> list[Limit]:
    """A test of no rows has no figures. Abstention has no flip rate: only its drop is asked for where all tests are."""
    counted = bool(number(test.get("n")))

    def limit(figure: str, most: float) -> Limit:
        return f"{name} {figure.replace('_', ' ')}", number(test.get(figure)) if counted else None, most, False

    if isinstance(rule, FairnessRule):
        return [limit("gap", rule.maximum_gap)]
    found = [limit("drop", rule.maximum_drop)] if rule.maximum_drop is not None else []
    asked = rule.maximum_flip_rate is not None and (rule.test is not None or test.get("kind") == "robustness")
    return found + ([limit("flip_rate", rule.maximum_flip_rate or 0.0)] if asked else [])


def decide_latency(rule: LatencyRule, load: dict[str, Any]) -> RuleResult:
    value = number(load.get(rule.metric))
    limits: list[Limit] = [(rule.metric, value, rule.maximum, False)] if rule.maximum is not None else []
    return decide_load_limits(rule, limits, value, rule.maximum_ratio, False, load)


def decide_goodput(rule: GoodputRule, load: dict[str, Any]) -> RuleResult:
    value = number(load.get(rule.metric))
    limits: list[Limit] = [(rule.metric, value, rule.minimum, True)] if rule.minimum is not None else []
    limits += [("error_rate", number(load.get("error_rate")), rule.maximum_error_rate, False)] if rule.maximum_error_rate is not None else []
    return decide_load_limits(rule, limits, value, rule.minimum_ratio, True, load)


def decide_load_limits(rule: LatencyRule | GoodputRule, limits: list[Limit], value: float | None, times: float | None, least: bool, load: Any) -> RuleResult:
    """A first release has no blue to be slower than: `blue_absent` says so, and only the absolute limits are asked for."""
    facts = {"n": number(load.get("requests")), "reference": rule.relative_to}
    if times is not None and load.get("blue_absent"):
        return decide_limits(rule, limits, LOADTEST, **facts) if limits else result(rule, "pass", NOTHING_ELSE, **facts)
    limits += [(f"{rule.metric} by blue's", ratio(value, load, rule.metric), times, least)] if times is not None else []
    return decide_limits(rule, limits, LOADTEST, **facts)


def ratio(value: float | None, load: dict[str, Any], metric: str) -> float | None:
    """Blue's figures of the same load lie beside green's, as `blue_METRIC`."""
    blue = number(load.get(f"blue_{metric}"))
    return value / blue if value is not None and blue else None
