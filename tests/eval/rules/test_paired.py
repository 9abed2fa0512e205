"""What rules that compare say of fixed evidence: outcome, figures and words. They were the same before the rules were
written anew, and a change of theirs changes verdicts."""

from __future__ import annotations

from typing import Any

import pandas
import pytest

from configs.rules.gate import GateConfig
from configs.verdict import RuleResult
from eval.rules.decide import decide
from eval.rules.evidence import Evidence, Measured

pytestmark = pytest.mark.unit
MINE, OTHER = "a@sha256:" + "a" * 64, "b@sha256:" + "b" * 64


def predictions(wrong_every: int) -> pandas.DataFrame:
    """200 rows of three topics; every `wrong_every`th answer is wrong, and its errors the larger."""
    correct = [float(number % wrong_every > 0) for number in range(200)]
    return pandas.DataFrame(
        {
            "id": [f"row-{number}" for number in range(200)],
            "correct": correct,
            "absolute_error": [2 - right + number % 7 / 10 for number, right in enumerate(correct)],
            "slices": [[f"topic={number % 3}", *(["rare"] if number % 50 == 0 else [])] for number in range(200)],
        }
    )


def decided(mine: int, theirs: int, rule: str, **keys: Any) -> RuleResult:
    champion = Measured({"release": OTHER, "dataset": "d"}, predictions(theirs))
    evidence = Evidence(
        MINE, Measured({"release": MINE, "dataset": "d"}, predictions(mine)), OTHER, {"champion": champion}
    )
    return decide(GateConfig.model_validate({"rules": [{"rule": rule, **keys}]}), evidence).results[0]


NON_INFERIOR = {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0.05}
ERROR = {"metric": "mean_absolute_error", "margin": 0.05}
SLICES = {"rule": "slice_minimum", "metric": "accuracy"}
CASES: list[tuple[int, int, dict[str, Any], str, tuple[float, str, float, float], str]] = [
    (
        4,
        20,
        NON_INFERIOR,
        "fail",
        (-0.05, "at least", -0.2609, -0.1505),
        "accuracy differs by -0.200 on 200 examples; its 95% interval [-0.261, -0.150] lies below "
        "-0.050. A difference of 0.087 would be seen with 80% power.",
    ),
    (
        20,
        4,
        NON_INFERIOR,
        "pass",
        (-0.05, "at least", 0.1505, 0.2609),
        "accuracy differs by +0.200 on 200 examples; its 95% interval [+0.150, +0.261] lies above "
        "-0.050. A difference of 0.087 would be seen with 80% power.",
    ),
    (
        10,
        9,
        NON_INFERIOR,
        "pass",
        (-0.05, "at least", -0.0461, 0.0767),
        "accuracy differs by +0.015 on 200 examples; its 95% interval [-0.046, +0.077] lies above "
        "-0.050. A difference of 0.084 would be seen with 80% power.",
    ),
    (
        20,
        4,
        {"rule": "superior_to", "metric": "accuracy"},
        "pass",
        (0.0, "at least", 0.1505, 0.2609),
        "accuracy differs by +0.200 on 200 examples; its 95% interval [+0.150, +0.261] lies above "
        "+0.000. A difference of 0.087 would be seen with 80% power.",
    ),
    (
        20,
        4,
        {"rule": "non_inferior_to", **ERROR},
        "pass",
        (0.05, "at most", -0.2751, -0.1253),
        "mean_absolute_error differs by -0.200 on 200 examples; its 95% interval [-0.275, -0.125] lies "
        "below +0.050. A difference of 0.080 would be seen with 80% power.",
    ),
    (
        4,
        20,
        {"rule": "superior_to", **ERROR},
        "fail",
        (-0.05, "at most", 0.1253, 0.2751),
        "mean_absolute_error differs by +0.200 on 200 examples; its 95% interval [+0.125, +0.275] lies "
        "above -0.050. A difference of 0.080 would be seen with 80% power.",
    ),
    (
        10,
        9,
        {"rule": "non_inferior_to", **ERROR},
        "inconclusive",
        (0.05, "at most", -0.0937, 0.0637),
        "mean_absolute_error differs by -0.015 on 200 examples; its 95% interval [-0.094, +0.064] spans "
        "+0.050, and about 145 more examples would decide. A difference of 0.086 would be seen with 80% power.",
    ),
    (
        4,
        20,
        {**SLICES, "reference": "champion", "margin": 0.05},
        "fail",
        (-0.05, "at least", -0.3207, -0.1288),
        "3 slices judged; topic=1 has accuracy -0.209 against champion on 67 examples (its 95% interval "
        "[-0.3207, -0.1288]); too small to judge: rare.",
    ),
    (
        10,
        9,
        {**SLICES, "reference": "champion", "margin": 0.0},
        "fail",
        (0.0, "at least", -0.2003, -0.0446),
        "3 slices judged; topic=1 has accuracy -0.104 against champion on 67 examples (its 95% interval "
        "[-0.2003, -0.04459]); too small to judge: rare.",
    ),
]


@pytest.mark.parametrize(("mine", "theirs", "rule", "outcome", "limits", "sentence"), CASES)
def test_fixed_evidence_has_one_result(
    mine: int,
    theirs: int,
    rule: dict[str, Any],
    outcome: str,
    limits: tuple[float, str, float, float],
    sentence: str,
) -> None:
    found = decided(mine, theirs, **rule)
    bound, direction, low, high = limits
    assert (found.outcome, found.sentence) == (outcome, sentence)
    assert (found.evidence["bound"], found.evidence["direction"]) == (bound, direction)
    assert (found.evidence["low"], found.evidence["high"]) == pytest.approx((low, high), abs=1e-3)
