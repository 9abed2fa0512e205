"""What a rule is decided by: samples of a judge, of a harness task and of one's own metric, paired as test rows are."""

from __future__ import annotations

import json
from typing import Any

import pandas
import pytest

from eval.rules.evidence import Measured
from tests.support.deciding import MINE, OTHER, judged, measured, samples

pytestmark = pytest.mark.unit
SCORE = {"judge_score": {"kind": "bounded", "low": 1.0, "high": 5.0, "higher_is_better": True}}
ACC = {"harness:words:acc": {"kind": "binary", "low": 0.0, "high": 1.0, "higher_is_better": True}}
POLITE = {"custom:rude": {"kind": "binary", "low": 0.0, "high": 1.0, "higher_is_better": False}}


def table(reference: str, source: str, metric: str, values: Any, definitions: Any, drop: Any = ()) -> Measured:
    rows = samples((source, metric, values))
    return measured(
        reference, samples=rows[~rows["id"].isin([f"{source}/{one}" for one in drop])], definitions=definitions
    )


def scored(reference: str, score: float, unread: list[int]) -> Measured:
    """200 of 500 rows were drawn; of some of them the judge's answer held no score."""
    return table(reference, "judge", "judge_score", [score + i % 2 for i in range(200)], SCORE, unread)


@pytest.mark.parametrize(("score", "outcome"), [(3.0, "pass"), (1.5, "fail")])
def test_a_judges_scores_of_drawn_rows_are_compared_where_both_have_one(score: float, outcome: str) -> None:
    rule = {"rule": "non_inferior_to", "metric": "judge_score", "margin": 0.5}
    known = {"champion": OTHER, "references": {"champion": scored(OTHER, 3.0, [4])}}
    found = judged(rule, scored(MINE, score, [7]), **known)
    assert found.outcome == outcome and found.evidence["n"] == 198 and found.evidence["left_out"] == 2
    assert "2 that only one of the two has are left out" in found.sentence
    whole = judged(rule, scored(MINE, score, []), champion=OTHER, references={"champion": scored(OTHER, 3.0, [])})
    assert whole.evidence["n"] == 200 and "left_out" not in whole.evidence and "left out" not in whole.sentence
    bound = judged({"rule": "threshold", "metric": "judge_score", "minimum": 2.5}, scored(MINE, 3.0, [7]))
    assert bound.outcome == "inconclusive", "a threshold reads metrics.json, which this evaluation lacks"


def harness(reference: str, right: int) -> Measured:
    return table(reference, "harness:words", "acc", [i < right for i in range(300)], ACC)


@pytest.mark.parametrize("metric", ["harness:words:acc", "harness_words_acc"])
@pytest.mark.parametrize(("right", "outcome"), [(240, "pass"), (200, "fail")])
def test_forgetting_is_gated_by_a_harness_task_against_the_base(metric: str, right: int, outcome: str) -> None:
    rule = {"rule": "non_inferior_to", "metric": metric, "reference": "base", "margin": 0.05}
    found = judged(rule, harness(MINE, right), references={"base": harness(OTHER, 240)})
    assert found.outcome == outcome and found.evidence["n"] == 300
    value = harness(MINE, right)
    value.record["metrics"] = {"harness_words_acc": right / 300}
    threshold = judged({"rule": "threshold", "metric": metric, "minimum": 0.73}, value)
    assert threshold.outcome == outcome and threshold.evidence["value"] == right / 300


def test_examples_of_a_task_that_only_one_side_has_prove_nothing() -> None:
    """Another edition of the task asks other questions; only a judge may leave some out."""
    rule = {"rule": "non_inferior_to", "metric": "harness:words:acc", "reference": "base", "margin": 1}
    base = table(OTHER, "harness:words", "acc", [1] * 300, ACC, drop=[3])
    found = judged(rule, harness(MINE, 300), references={"base": base})
    assert found.outcome == "inconclusive" and "1 examples are not shared" in found.sentence
    none = judged(rule, harness(MINE, 300), references={"base": measured(OTHER)})
    assert none.outcome == "inconclusive" and "no examples" in none.sentence


@pytest.mark.parametrize(("rude", "outcome"), [(5, "pass"), (60, "fail")])
def test_a_metric_of_ones_own_is_decided_the_way_it_runs(rude: int, outcome: str) -> None:
    mine = table(MINE, "test", "custom:rude", [i < rude for i in range(300)], POLITE)
    mine.record["metrics"] = {"custom:rude": rude / 300}
    assert judged({"rule": "threshold", "metric": "custom:rude", "maximum": 0.1}, mine).outcome == outcome
    theirs = table(OTHER, "test", "custom:rude", [i < 5 for i in range(300)], POLITE)
    rule = {"rule": "non_inferior_to", "metric": "custom:rude", "margin": 0.05}
    found = judged(rule, mine, champion=OTHER, references={"champion": theirs})
    assert found.outcome == outcome and found.evidence["direction"] == "at most"


def test_rows_that_share_a_document_are_counted_by_it() -> None:
    """Ten documents of thirty rows each, all of one outcome: no more is known than of ten rows."""
    rows = samples(("test", "accuracy", [i >= 30 for i in range(300)]))
    documents = pandas.Series([f"document {i // 30}" for i in range(300)])
    rule = {"rule": "threshold", "metric": "accuracy", "minimum": 0.8}
    metrics = {"accuracy": 0.9}
    plain = judged(rule, measured(MINE, samples=rows, metrics=metrics))
    clustered = judged(rule, measured(MINE, samples=rows.assign(cluster=documents), metrics=metrics))
    assert (plain.outcome, clustered.outcome) == ("pass", "inconclusive")


def folded(reference: str, by_fold: list[float], metric: str = "accuracy", **record: Any) -> Measured:
    """50 rows a fold, of which so great a share is right, in the order of the rows; labels good and bad in turn."""
    right = [place < share * 50 for share in by_fold for place in range(50)]
    gold = ["good" if place % 2 else "bad" for place in range(len(right))]
    answers = [label if one else {"good": "bad", "bad": "good"}[label] for label, one in zip(gold, right, strict=True)]
    rows = pandas.DataFrame({"id": [f"{place:03}" for place in range(len(right))], "gold": gold, "answer": answers})
    rows["probabilities"] = [json.dumps({one: 0.9, "good" if one == "bad" else "bad": 0.1}) for one in answers]
    rows["correct"], rows["fold"] = [float(one) for one in right], [str(place // 50) for place in range(len(right))]
    return measured(reference, rows, metrics={metric: sum(right) / len(right)}, **record)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "f1:good", "recall:bad"])
def test_folds_that_differ_widen_what_a_threshold_and_a_comparison_go_by(metric: str) -> None:
    rule = {"rule": "threshold", "metric": metric, "minimum": 0.8}
    alike, apart = [0.9] * 4, [0.8, 0.88, 0.92, 1.0]
    same = judged(rule, folded(MINE, alike, metric))
    assert same.outcome == "pass" and "4 folds" in same.evidence["method"]
    assert same.evidence["n"] == (100 if metric.startswith("recall") else 200)
    differ = judged(rule, folded(MINE, apart, metric))
    assert differ.outcome == "inconclusive" and differ.evidence["value"] == same.evidence["value"] == 0.9
    assert (differ.evidence["more_examples"] or 0) > 0
    champion = folded(OTHER, alike, metric)
    assert champion.frame is not None
    del champion.frame["fold"]
    paired = {"rule": "non_inferior_to", "metric": metric, "margin": 0.05}
    known: dict[str, Any] = {"champion": OTHER, "references": {"champion": champion}}
    assert judged(paired, folded(MINE, alike, metric), **known).outcome == "pass"
    assert judged(paired, folded(MINE, apart, metric), **known).outcome == "inconclusive"


def test_folds_that_differ_widen_how_often_the_release_answers_as_its_parent() -> None:
    rule = {"rule": "quantization", "minimum_agreement": 0.8}
    for by_fold, outcome in (([0.9] * 4, "pass"), ([0.8, 0.88, 0.92, 1.0], "inconclusive")):
        mine = folded(MINE, by_fold)
        assert mine.frame is not None
        parent = measured(OTHER, mine.frame.assign(answer=mine.frame["gold"]))
        mine.record["metrics"] = {"parent_agreement": 0.9}
        found = judged(rule, mine, references={"parent": parent})
        assert found.outcome == outcome and "4 folds" in found.evidence["method"]


def test_a_harness_task_is_the_releases_own_and_is_not_widened() -> None:
    found = harness(MINE, 240)
    table = Measured(
        found.record | {"metrics": {"harness_words_acc": 0.8}}, folded(MINE, [0.5, 1.0]).frame, found.samples
    )
    rule = {"rule": "threshold", "metric": "harness:words:acc", "minimum": 0.7}
    assert judged(rule, table).outcome == "pass"
    assert "folds" not in judged(rule, table).evidence["method"]
