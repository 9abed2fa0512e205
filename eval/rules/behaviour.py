"""Decides the rules about behaviour tests."""

from __future__ import annotations

from typing import Any

from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.verdict import RuleResult
from eval.rules.evidence import Measured
from eval.rules.result import EVALUATE, Limit, decide_limits, number, result, section

KINDS = {"robustness": ("robustness", "directional", "abstention"), "fairness": ("invariance",)}


def decide_behaviour(rule: RobustnessRule | FairnessRule, measured: Measured) -> RuleResult:
    """Of the tests that the rule names, the one that is furthest over its limit is shown."""
    tests = {name: one for name, one in section(measured, "behaviour").items() if isinstance(one, dict)}
    wanted = {
        name: one
        for name, one in tests.items()
        if (name == rule.test if rule.test else one.get("kind") in KINDS[rule.rule])
    }
    if not wanted:
        known = f"; measured: {', '.join(tests)}" if tests else ""
        return result(
            rule,
            "inconclusive",
            f"No such behaviour test was measured{known}: add it to evaluate.behaviour, then {EVALUATE}.",
        )
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
