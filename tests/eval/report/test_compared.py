"""What changed: one column a reference, in colour only what an interval shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.verdict import Outcome, RuleResult, Verdict
from eval.report import compared
from eval.report.markdown import arrow
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import compare_metric
from tests.support import judged

pytestmark = pytest.mark.unit


def verdict_of(changes: dict[str, Any], *results: RuleResult) -> Verdict:
    return Verdict(release=judged.RELEASE, outcome="pass", results=[*results], changes=changes)


def rule(
    outcome: Outcome, low: float, high: float, metric: str = "accuracy", reference: str = "champion"
) -> RuleResult:
    facts: Any = {"kind": "non_inferior_to", "metric": metric, "reference": reference, "low": low, "high": high}
    return RuleResult(rule="r", outcome=outcome, sentence="s", evidence=facts)


def test_there_is_a_column_for_each_reference_the_champion_first() -> None:
    changes = {"accuracy": {"release": 0.9, judged.BASE: 0.5, "base": 0.1, "champion": 0.8, "parent": None}}
    assert compared.references(changes.values()) == ["champion", "base", judged.BASE]
    (row,) = compared.changes(verdict_of(changes), Evidence("r", None))
    assert [one.before for one in row.references if one] == [0.8, 0.1, 0.5]


def test_a_change_has_the_interval_of_the_rule_that_compared_the_same_two() -> None:
    accuracy, loss = compared.changes(judged.verdict(), judged.evidence())
    champion, base = accuracy.references
    assert (
        champion and base and (champion.low, champion.high) == (-0.2, -0.08) and (base.low, base.high) == (-0.04, 0.08)
    )
    assert (champion.word, base.word, accuracy.judged, loss.judged) == ("worse", "unclear", True, False)
    assert loss.references[0] and loss.references[0].difference == pytest.approx(0.1) and loss.references[1] is None
    assert loss.references[0].word == "no interval"


@pytest.mark.parametrize("outcome", ["pass", "fail", "inconclusive"])
def test_what_holds_0_is_neither_better_nor_worse_whatever_its_rule_says(outcome: Outcome) -> None:
    changes = {"accuracy": {"release": 0.9375, "champion": 0.9}}
    (row,) = compared.changes(verdict_of(changes, rule(outcome, -0.010, 0.105)), Evidence("r", None))
    (one,) = row.references
    assert one and one.better is None and arrow(one) == "▲ +0.0375 (-0.01 … +0.105) unclear"


@pytest.mark.parametrize(
    ("metric", "release", "before", "low", "high", "told"),
    [
        ("accuracy", 0.5, 0.4, 0.05, 0.15, "▲ +0.1 (+0.05 … +0.15) better"),
        ("log_loss", 0.5, 0.4, 0.05, 0.15, "▲ +0.1 (+0.05 … +0.15) worse"),
        ("f1:good", 0.3, 0.4, -0.2, -0.01, "▼ -0.1 (-0.2 … -0.01) worse"),
        ("made up", 1.0, 0.0, 0.5, 1.5, "▲ +1 (+0.5 … +1.5)"),
        ("accuracy", 1.0, 1.0, 0.0, 0.0, "= 0 (0 … 0) unclear"),
    ],
)
def test_up_is_not_always_better(
    metric: str, release: float, before: float, low: float, high: float, told: str
) -> None:
    changes = {metric: {"release": release, "base": before}}
    verdict = verdict_of(changes, rule("pass", low, high, metric, "base"))
    (row,) = compared.changes(verdict, Evidence("r", None))
    assert row.references[0] and arrow(row.references[0]).replace("+0 ", "0 ").replace("+0)", "0)") == told


def side(correct: list[float]) -> Measured:
    rows = pandas.DataFrame({"id": [str(place) for place in range(len(correct))], "correct": correct})
    return Measured({"metrics": {"accuracy": sum(correct) / len(correct)}}, frame=rows)


def test_where_no_rule_compared_the_two_the_rows_do() -> None:
    mine, theirs = side([1.0] * 90 + [0.0] * 10), side([1.0] * 50 + [0.0] * 50)
    changes = {"accuracy": {"release": 0.9, "base": 0.5}, "macro_f1": {"release": 0.9, "base": 0.5}}
    evidence = Evidence("r", mine, references={"base": theirs})
    accuracy, whole = (row.references[0] for row in compared.changes(verdict_of(changes), evidence))
    assert accuracy and accuracy.better and accuracy.low and 0.2 < accuracy.low < 0.4
    assert whole and whole.better is None and whole.word == "no interval", "no column of labels"
    other = Evidence("r", mine, references={"base": side([1.0] * 7)})
    (unpaired,) = compared.changes(verdict_of({"accuracy": changes["accuracy"]}), other)
    assert unpaired.references[0] and unpaired.references[0].low is None


def test_a_figure_of_the_whole_set_that_no_rule_names_has_an_interval_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is drawn for once, though page and comment ask for it; where it would take long it says that there is
    none."""
    mine, theirs = (
        judged.measured(name, judged.predictions(seed, skill))
        for name, seed, skill in ((judged.RELEASE, 1, 0.9), (judged.CHAMPION, 2, 0.5))
    )
    changes = {"macro_f1": {"release": 0.93, "champion": 0.67}, "roc_auc": {"release": 0.9, "champion": 0.8}}
    drawn: list[int] = []

    def counted(metric: str, one: Measured, other: Measured, confidence: float, *, draws: int) -> Any:
        drawn.append(draws)
        return compare_metric(metric, one, other, confidence, draws=draws)

    monkeypatch.setattr(compared, "compare_metric", counted)
    evidence = Evidence("r", mine, references={"champion": theirs})
    for _ in ("page", "comment"):
        macro, area = (row.references[0] for row in compared.changes(verdict_of(changes), evidence))
        assert macro and macro.low and macro.high and macro.low < 0.26 < macro.high and macro.word == "better"
        assert area and area.low is not None
    assert drawn == [compared.DRAWS] * 2
    monkeypatch.setattr(compared, "MOST_WORK", 239)
    other = Evidence("r", replace(mine), references={"champion": theirs})
    assert [row.references[0].word for row in compared.changes(verdict_of(changes), other) if row.references[0]] == [
        "no interval"
    ] * 2


def test_an_area_costs_a_curve_a_label() -> None:
    mine = replace(side([1.0] * 10), record={"classes": {"a": {}, "b": {}, "c": {}}})
    assert [compared.work_of(name, mine) for name in ("macro_f1", "roc_auc", "pr_auc")] == [10, 30, 30]


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_colour_without_an_interval_that_leaves_0_out(release: float, before: float, down: float, up: float) -> None:
    low, high = release - before - down, release - before + up
    changes = {"accuracy": {"release": release, "champion": before}}
    (row,) = compared.changes(verdict_of(changes, rule("pass", low, high)), Evidence("r", None))
    assert row.references[0] and (row.references[0].better is not None) == (low > 0 or high < 0)


def test_a_side_without_a_figure_is_no_change() -> None:
    changes = {"a": {"release": None, "champion": 1.0}, "b": {"release": float("nan"), "base": 1.0}}
    verdict = verdict_of({}).model_copy(update={"changes": changes})
    assert compared.changes(verdict, Evidence("r", None)) == []


def test_of_a_first_release_all_that_was_measured_is_shown() -> None:
    (row,) = compared.changes(verdict_of({"accuracy": {"release": 0.9}}), Evidence("r", None))
    assert (row.name, row.release, row.references) == ("accuracy", 0.9, [])


def test_what_a_rule_names_stands_first_then_what_has_an_interval() -> None:
    mine, theirs = side([1.0] * 90 + [0.0] * 10), side([1.0] * 50 + [0.0] * 50)
    changes = {name: {"release": 0.9, "base": 0.5} for name in ("macro_f1", "accuracy", "roc_auc")}
    named = rule("pass", 0.1, 0.2, "roc_auc", "champion")
    found = compared.changes(verdict_of(changes, named), Evidence("r", mine, references={"base": theirs}))
    assert [one.name for one in found] == ["roc_auc", "accuracy", "macro_f1"] and compared.shown_first(found) == 2
    assert compared.shown_first([]) == compared.MOST_SHOWN


def test_costs_stand_beside_the_champions() -> None:
    mine, theirs = (
        Measured({"cost": {"latency_p50_seconds": 0.03, "size_bytes": 2**21, "odd_figure": 1.0}}),
        Measured({"cost": {"latency_p50_seconds": 0.02}}),
    )
    latency, size, odd = compared.costs(Evidence("r", mine, references={"champion": theirs}), ["champion"])
    assert (latency.name, latency.release) == ("latency, median, ms", pytest.approx(30))
    assert latency.references[0] and arrow(latency.references[0]) == "▲ +50%"
    assert (size.name, size.release, size.references, odd.name) == ("weights, MiB", 2, [None], "odd figure")


def test_the_champion_is_what_a_release_is_held_against_else_the_base() -> None:
    one = side([1.0])
    assert compared.paired_with(Evidence("r", one, references={"base": one, "champion": one})) == "champion"
    assert compared.paired_with(Evidence("r", one, references={"parent": one, "base": one})) == "base"
    assert compared.paired_with(Evidence("r", one)) is None


def test_what_was_measured_on_other_rows_is_not_held_against() -> None:
    other = replace(side([0.0]), record={"dataset": "other"})
    evidence = Evidence("r", replace(side([1.0]), record={"dataset": "rows"}), "c", {"champion": other})
    assert compared.paired_with(evidence) is None and compared.frames(evidence)[1] is None


def of_answers(tokens: float, refused: int, seconds: float) -> Measured:
    """200 answers with some spread in length and time."""
    frame = pandas.DataFrame({"id": [f"{one:03}" for one in range(200)]})
    frame["completion_tokens"] = [tokens + one % 5 for one in range(200)]
    frame["refused"] = [float(one < refused) for one in range(200)]
    frame["latency_seconds"] = [seconds + one % 5 / 100 for one in range(200)]
    return Measured({"cost": {"completion_tokens_mean": tokens + 2, "size_bytes": 2**20}}, frame)


def test_length_refusals_and_latency_stand_beside_each_reference_with_an_interval() -> None:
    evidence = Evidence("r", of_answers(20, 60, 0.5), references={"champion": of_answers(40, 0, 0.2)})
    metrics = {
        "accuracy": {"release": 0.9, "champion": 0.8},
        "latency_seconds": {"release": 0.52, "champion": 0.22},
        "answer_tokens": {"release": 22.0, "champion": 42.0},
        "refusal_rate": {"release": 0.3, "champion": 0.0},
    }
    verdict = verdict_of(metrics)
    assert [one.name for one in compared.changes(verdict, evidence)] == ["accuracy"]
    length, refusals, latency, size = compared.answers(verdict, evidence, ["champion"])
    assert (length.name, length.release, size.name) == ("tokens of an answer, mean", 22, "weights, MiB")
    cells = [one.references[0] for one in (length, refusals, latency)]
    shorter, more, slower = [one for one in cells if one]
    assert shorter.low is not None and shorter.low < shorter.difference == -20
    assert shorter.better is None, "neither way is better"
    assert more.better is False and more.low is not None and 0.2 < more.low < more.difference
    assert (latency.release, slower.before) == pytest.approx((520, 220)) and slower.difference == pytest.approx(300)
    assert slower.low is not None and slower.low > 250 and slower.better is None, "of one run each"


def test_equal_answers_are_grey() -> None:
    side_ = of_answers(20, 10, 0.5)
    verdict = verdict_of({"refusal_rate": {"release": 0.05, "champion": 0.05}})
    refusals, *_ = compared.answers(verdict, Evidence("r", side_, references={"champion": side_}), ["champion"])
    assert refusals.references[0] and refusals.references[0].word == "unclear"
