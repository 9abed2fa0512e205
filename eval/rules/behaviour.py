"""Decides the rules about behaviour tests."""

from __future__ import annotations

from typing import cast

from configs.metrics import BehaviourFigures
from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.verdict import RuleResult
from eval.rules.evidence import Measured
from eval.rules.result import EVALUATE, Limit, as_object, decide_limits, finite, result

KINDS = {"robustness": ("robustness", "directional", "abstention"), "fairness": ("invariance",)}


def decide_behaviour(rule: RobustnessRule | FairnessRule, measured: Measured) -> RuleResult:
    """Of the tests that the rule names, the one that is furthest over its limit is shown."""
    known = as_object(measured.record.get("behaviour"))
    tests = {name: cast(BehaviourFigures, one) for name, one in known.items() if isinstance(one, dict)}
    wanted = {
        name: one
        for name, one in tests.items()
        if (name == rule.test if rule.test else one.get("kind") in KINDS[rule.rule])
    }
    if not wanted:
        others = f"; measured: {', '.join(tests)}" if tests else ""
        return result(
            rule,
            "inconclusive",
            f"No such behaviour test was measured{others}: add it to evaluate.behaviour, then {EVALUATE}.",
        )
    limits = [limit for name, one in wanted.items() for limit in limits_of(rule, name, one)]
    return decide_limits(rule, limits, EVALUATE, n=sum(int(finite(one.get("n")) or 0) for one in wanted.values()))


def limits_of(rule: RobustnessRule | FairnessRule, name: str, test: BehaviourFigures) -> list[Limit]:
    """A test of no rows has no figures. Abstention has no flip rate: only its drop is asked for where all tests are."""
    counted = bool(finite(test.get("n")))

    def limit(figure: str, most: float) -> Limit:
        return f"{name} {figure.replace('_', ' ')}", finite(test.get(figure)) if counted else None, most, False

    if isinstance(rule, FairnessRule):
        return [limit("gap", rule.maximum_gap)]
    found = [limit("drop", rule.maximum_drop)] if rule.maximum_drop is not None else []
    asked = rule.maximum_flip_rate is not None and (rule.test is not None or test.get("kind") == "robustness")
    return found + ([limit("flip_rate", rule.maximum_flip_rate or 0.0)] if asked else [])
