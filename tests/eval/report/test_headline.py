"""What decided, in words and numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.verdict import Binding, Outcome, RuleResult, Verdict, conjunction
from eval.report.headline import (
    by_severity,
    clearance,
    decisive,
    figure_of,
    headline,
    judged_against,
    looks,
    others,
    points,
    share,
)
from infra.terminal import print_verdict
from tests.support import judged

pytestmark = pytest.mark.unit
BINDING = Binding(
    release=judged.RELEASE, outcome="pass", environment="staging", champion="none", gate="gate.yaml", gate_digest="g"
)
OPEN: dict[str, Any] = {"low": -0.08, "high": 0.01, "bound": -0.03, "direction": "at least"}


def rule(name: str, outcome: Outcome, **evidence: Any) -> RuleResult:
    return RuleResult(rule=name, outcome=outcome, sentence="It was not measured.", evidence=evidence)  # type: ignore[arg-type]


def compared(outcome: Outcome, difference: float, metric: str = "accuracy", **more: Any) -> RuleResult:
    facts = {"kind": "non_inferior_to", "metric": metric, "reference": "champion", "difference": difference, **OPEN}
    return rule(f"{metric} non-inferior", outcome, **(facts | more))


def threshold(outcome: Outcome, value: float, low: float, high: float, bound: float = 0.85, **more: Any) -> RuleResult:
    facts = {"kind": "threshold", "metric": "accuracy", "value": value, "low": low, "high": high, "bound": bound}
    return rule("accuracy >= 0.85", outcome, **(facts | {"direction": "at least"} | more))


def verdict_of(*results: RuleResult, champion: str | None = judged.CHAMPION, **changes: Any) -> Verdict:
    return Verdict(
        release=judged.RELEASE, champion=champion, outcome=conjunction([*results]), results=[*results], changes=changes
    )


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (compared("fail", -0.3625, "exact_match"), "Fail: answers 36 points fewer rows right than the champion."),
        (compared("fail", -0.3625, "macro_f1"), "Fail: macro_f1 is 36 points lower than the champion."),
        (compared("fail", 0.25, "log_loss"), "Fail: log_loss is 0.25 higher than the champion."),
        (compared("fail", -0.1, reference=judged.BASE),
         f"Fail: labels 10 points fewer rows right than base@{'c' * 12}."),
        (compared("pass", 0.004), "Pass: shown to be no worse than the champion: "
         "labels 0.4 points more rows right."),
        (compared("pass", 0.0), "Pass: shown to be no worse than the champion: "
         "labels as many rows right."),
        (compared("pass", 0.1, kind="superior_to", reference="base"), "Pass: shown to be better than the base: "
         "labels 10 points more rows right."),
        (compared("inconclusive", -0.013, more_examples=120),
         "Inconclusive: not shown to be no worse than the champion (labels 1.3 points fewer rows right): "
         "about 120 more test rows would decide."),
        (compared("inconclusive", -0.03), "Inconclusive: not shown to be no worse than the champion (labels 3 points "
         "fewer rows right): no number of test rows would decide, it is too near its bound."),
        (threshold("fail", 0.8, 0.77, 0.83), "Fail: labels 80% of rows right, at least 85% is asked for."),
        (threshold("pass", 0.9, 0.88, 0.92), "Pass: labels 90% of rows right, at least 85% is asked for."),
        (threshold("inconclusive", 0.86, 0.83, 0.89, more_examples=1410), "Inconclusive: labels 86% of rows right, "
         "not shown to be at least 85%: about 1,410 more test rows would decide."),
        (threshold("pass", 0.9, 0.88, 0.92, point=True), "Pass: labels 90% of rows right (point figure), "
         "at least 85% is asked for."),
        (rule("KL", "inconclusive", kind="quantization", metric="KL divergence", value=0.02, bound=0.05,
              direction="at most", more_examples=36), "Inconclusive: KL divergence is 0.02, "
         "not shown to be at most 0.05: an interval needs 36 more test rows."),
        (rule("loss", "inconclusive", kind="threshold", metric="log_loss", value=0.2, bound=0.5, direction="at most"),
         "Inconclusive: log_loss is 0.2, not shown to be at most 0.5: no interval can be made of it."),
        (rule("typos", "fail", kind="robustness", metric="typos drop", value=0.24, bound=0.1, direction="at most"),
         "Fail: typos drop is 0.24, at most 0.1 is asked for."),
        (rule("parity", "fail", kind="parity", value=0.5, difference=0.02, prompts=16),
         "Fail: answers 50% of the golden prompts as the trained model did."),
        (rule("ece <= 0.1", "inconclusive"), "Inconclusive: ece <= 0.1: It was not measured."),
        (rule("parity", "pass"), "Pass: all of 1 rule hold."),
    ],
)  # fmt: skip
def test_the_headline_names_the_figure_that_decided(result: RuleResult, sentence: str) -> None:
    assert headline(verdict_of(result)) == sentence


def test_rows_are_calls_where_functions_were_called() -> None:
    found = verdict_of(compared("fail", -0.3625, "exact_match"), name_match={"release": 0.1})
    assert headline(found) == "Fail: answers 36 points fewer calls right than the champion."


def test_a_slice_is_named_with_its_own_figure() -> None:
    rows = [{"name": "topic=travel", "n": 79, "difference": -0.44, "low": -0.56, "high": -0.3}]
    found = rule("slices", "fail", kind="slice_minimum", metric="accuracy", reference="champion", slices=rows, n=79,
                 low=-0.56, high=-0.3, bound=-0.1, direction="at least")  # fmt: skip
    assert headline(verdict_of(found)) == "Fail: in topic=travel, labels 44 points fewer rows right than the champion."
    open_ = found.model_copy(update={"outcome": "inconclusive", "evidence": found.evidence | {"more_examples": 40}})
    assert headline(verdict_of(open_)).endswith("about 40 more test rows of that slice would decide.")


def test_a_pass_that_nothing_stood_against_says_so() -> None:
    found = headline(verdict_of(threshold("pass", 0.9, 0.88, 0.92), champion=None))
    assert found.startswith("Pass, without a champion to compare with: labels 90% of rows right")
    bound = verdict_of(threshold("pass", 0.9, 0.88, 0.92), champion=None).model_copy(update={"binding": BINDING})
    assert headline(bound).startswith("Pass, without a champion to compare with (staging has never served anything): ")
    assert judged_against(bound) == "no champion, for staging has never served anything"
    nowhere = bound.model_copy(update={"binding": BINDING.model_copy(update={"environment": None})})
    assert judged_against(nowhere) == "no environment was named" and judged_against(judged.verdict()) == ""
    assert headline(verdict_of()) == "Inconclusive: there was no rule to judge by."


@pytest.mark.parametrize(
    ("number", "look", "told"),
    [
        (None, None, ""),
        (1, 1, "look 1 at these test rows"),
        (3, 3, "look 3 at these test rows, judged at a higher confidence than those before it"),
        (1, None, "look 1 at these test rows; counted on this machine alone"),
    ],
)
def test_a_look_at_the_test_rows_is_counted_and_says_what_it_costs(
    number: int | None, look: int | None, told: str
) -> None:
    binding = BINDING.model_copy(update={"look": look})
    assert looks(judged.verdict().model_copy(update={"holdout_uses": number, "binding": binding})) == told
    assert looks(judged.verdict()).endswith("the likelier that a pass is luck"), "of a verdict that let no look pay"


def test_what_falls_short_of_the_champion_decides_before_what_falls_short_of_a_bound() -> None:
    lost, far = compared("fail", -0.1, low=-0.12, high=-0.08), threshold("fail", 0.3, 0.29, 0.31)
    assert decisive(verdict_of(far, lost)) is lost and decisive(verdict_of(far)) is far
    worse = compared("fail", -0.3, low=-0.32, high=-0.28)
    assert decisive(verdict_of(lost, far, worse)) is worse


def test_of_what_passed_and_of_what_is_open_the_nearest_to_its_bound_decides() -> None:
    near, safe, plain = (
        threshold("pass", 0.87, 0.855, 0.885),
        threshold("pass", 0.95, 0.94, 0.96),
        rule("parity", "pass"),
    )
    assert decisive(verdict_of(safe, plain, near)) is near and decisive(verdict_of(plain)) is plain
    open_, nearer = compared("inconclusive", -0.01), compared("inconclusive", -0.029)
    assert decisive(verdict_of(open_, near, nearer)) is nearer


def test_what_else_there_is_stands_beneath() -> None:
    found = verdict_of(
        compared("fail", -0.2), threshold("fail", 0.3, 0.2, 0.4), rule("ece", "inconclusive"), rule("parity", "pass")
    )
    assert others(found) == "Also failed: accuracy >= 0.85. Also not shown: ece. 1 of 4 rules holds"
    assert others(verdict_of(*[rule(name, "inconclusive") for name in "abcde"])).startswith(
        "Also not shown: b; c; d; 1 more"
    )


def test_paritys_distance_is_no_difference_from_a_reference() -> None:
    found = figure_of(rule("parity", "pass", kind="parity", value=0.98, difference=0.004))
    assert found is not None and (found.value, found.is_difference) == (0.98, False)


def test_the_terminal_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = judged.verdict()
    print_verdict(found, headline(found))
    assert capsys.readouterr().out.splitlines()[-1] == headline(found)


def test_what_failed_comes_first_and_the_files_order_within() -> None:
    outcomes: list[Outcome] = ["pass", "inconclusive", "fail", "pass"]
    found = by_severity([rule(str(place), one) for place, one in enumerate(outcomes)])
    assert [one.rule for one in found] == ["2", "1", "0", "3"]


@given(st.floats(0, 1))
def test_a_share_reads_as_all_or_nothing_only_where_it_is(value: float) -> None:
    assert (share(value) == "100%") == (value == 1) and (share(value) == "0%") == (value == 0)


@given(st.floats(-1, 1).filter(lambda value: value != 0))
def test_points_have_no_sign_and_are_never_nothing(value: float) -> None:
    assert "-" not in points(value).replace("e-", "") and float(points(value).split()[0]) > 0


NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([None, float("nan"), float("inf")])


@given(
    st.lists(
        st.builds(
            lambda outcome, facts: RuleResult(rule="r", outcome=outcome, sentence="Why.", evidence=facts),
            st.sampled_from(["pass", "fail", "inconclusive"]),
            st.fixed_dictionaries(
                {},
                optional={
                    **dict.fromkeys(("value", "difference", "low", "high", "bound", "more_examples", "n"), NUMBERS),
                    "kind": st.sampled_from(["non_inferior_to", "superior_to", "slice_minimum", "threshold", "parity"]),
                    "metric": st.sampled_from(["accuracy", "log_loss", "made up"]),
                    "reference": st.sampled_from(["champion", judged.BASE]),
                    "direction": st.sampled_from(["at least", "at most"]),
                    "slices": st.lists(st.dictionaries(st.sampled_from(["value", "difference", "low"]), NUMBERS)),
                },
            ),
        ),
        max_size=4,
    )
)
def test_whatever_the_evidence_there_is_one_sentence_about_a_rule_of_that_outcome(results: list[RuleResult]) -> None:
    found = Verdict(release=judged.RELEASE, outcome=conjunction(results), results=results)
    text, one = headline(found), decisive(found)
    assert (
        text.startswith(found.outcome.capitalize()) and text.endswith(".") and "nan" not in text and "inf" not in text
    )
    assert (one is None) == (not results) and (one is None or one.outcome == found.outcome)
    assert one is None or clearance(one) is None or figure_of(one) is not None
