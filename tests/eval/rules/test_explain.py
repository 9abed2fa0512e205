"""What `tunegate gate --explain` says: the rule in general, and this run's numbers."""

from __future__ import annotations

import pandas
import pytest

from configs.errors import InputError
from configs.rules.gate import GateConfig
from eval.rules.decide import decide
from eval.rules.evidence import Evidence, Measured
from eval.rules.explain import EXPLANATIONS, choose, explain_kind, explain_result

pytestmark = pytest.mark.unit
RULES = GateConfig.model_validate(
    {
        "rules": [
            {"rule": "threshold", "metric": "accuracy", "minimum": 0.5},
            {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0.05},
            {"rule": "slice_minimum", "metric": "accuracy", "minimum": 0.5},
            {"rule": "parity"},
            {"rule": "parity"},
        ]
    }
)


def measured(name: str, right: int) -> Measured:
    correct = [float(i < right) for i in range(100)]
    frame = pandas.DataFrame(
        {
            "id": [str(i) for i in range(100)],
            "correct": correct,
            "slices": [["odd" if i % 2 else "even"] for i in range(100)],
        }
    )
    return Measured({"release": f"{name}@sha256:1", "dataset": "d", "metrics": {"accuracy": right / 100}}, frame)


def test_a_rule_is_chosen_by_number_kind_or_name() -> None:
    assert (
        choose(RULES, "2")
        == choose(RULES, "non_inferior_to")
        == choose(RULES, "accuracy non-inferior to champion by 0.05")
        == [RULES.rules[1]]
    )
    assert len(choose(RULES, "parity")) == 2
    with pytest.raises(InputError, match=r"5  served answers") as caught:
        choose(RULES, "6")
    assert caught.value.hint == "tunegate gate --explain list"


@pytest.mark.parametrize("kind", EXPLANATIONS)
def test_every_kind_says_what_it_asks_by_which_formula_and_method(kind: str) -> None:
    text = explain_kind(kind)
    assert text.startswith(kind) and all(f"\n  {part}" in text for part in ("asks", "formula", "method"))


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="slice_minimum"):
        explain_kind("slices")


def test_the_steps_are_this_runs_own_numbers() -> None:
    results = decide(
        RULES, Evidence("a@sha256:1", measured("a", 70), "b@sha256:1", {"champion": measured("b", 80)})
    ).results
    threshold, paired, slices, parity, _ = map(explain_result, results)
    assert "accuracy = 0.7" in threshold and "=> pass" in threshold
    for step in (
        "release 0.7, champion 0.8, on 100 shared",
        "0 examples gained, 10 lost: (0 - 10) / 100 = -0.1000",
        "Tango",
        "the bound: at least -0.05",
    ):
        assert step in paired
    assert "slice odd: value 0.7 on 50" in slices and "interval [" in slices
    assert parity.splitlines()[1].startswith("  => inconclusive: Parity was not measured")
