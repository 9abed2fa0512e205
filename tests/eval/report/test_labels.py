"""Of tens of labels those that are weak, and which are taken for which."""

from __future__ import annotations

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.classification import classes
from eval.metrics.entities import types
from eval.report.labels import MOST_LABELS, confused, interval_of_share, matrix, recalled, weakest
from eval.rules.evidence import Evidence, Measured
from tests.support import judged

pytestmark = pytest.mark.unit


def answered(rows: list[tuple[str, str]]) -> pandas.DataFrame:
    return pandas.DataFrame(rows, columns=["gold", "answer"]).assign(confidence=0.9)


def measured(rows: list[tuple[str, str]]) -> Measured:
    return Measured({"classes": classes(answered(rows))}, frame=answered(rows))


def test_a_label_of_two_rows_does_not_stand_before_one_that_is_surely_weak() -> None:
    rows = [("rare", "common")] + [("rare", "rare")] + [("weak", "common")] * 30 + [("weak", "weak")] * 10
    mine, champion = measured([*rows, *[("common", "common")] * 60]), measured([("weak", "weak")] * 40)
    found = weakest(Evidence("r", mine, "c", {"champion": champion}))
    assert [row.name for row in found] == ["weak", "rare", "common"]
    assert (found[0].n, found[0].recall, found[0].reference) == (40, 0.25, 1.0) and found[1].reference is None
    assert (
        all(row.low - 1e-9 <= row.recall <= row.high + 1e-9 for row in found)
        and 0.1 < found[0].low < 0.25 < found[0].high < 0.45
    )


def test_a_release_without_labels_has_no_weak_one() -> None:
    assert weakest(Evidence("r", None)) == weakest(Evidence("r", Measured({}))) == []


def test_the_most_frequent_confusion_comes_first_with_the_references() -> None:
    mine = answered([("a", "b")] * 3 + [("b", "a")] + [("a", "a")] * 7)
    first, second = confused(mine, answered([("a", "b")]))
    assert first[:4] == ("a", "b", 3, 0.3) and second[:4] == ("b", "a", 1, 1.0)
    assert (first.reference, second.reference) == (1, 0)
    assert first.low == pytest.approx(0.0667, abs=1e-3) and first.high == pytest.approx(0.6525, abs=1e-3), "by scipy"
    assert confused(mine)[0].reference is None and len(confused(mine, most=1)) == 1


@pytest.mark.parametrize("rows_each", [1, 5])
def test_rows_of_one_cluster_count_as_little_as_they_tell(rows_each: int) -> None:
    """Twenty documents whose rows are all alike: as wide as twenty rows, whatever their number."""
    documents = [("a", "b" if number < 4 else "a") for number in range(20)]
    frame = answered([row for row in documents for _ in range(rows_each)])
    frame = frame.assign(cluster=[f"document {number}" for number in range(20) for _ in range(rows_each)])
    (label,) = weakest(Evidence("r", Measured({"classes": classes(frame)}, frame=frame)))
    (pair,) = confused(frame)
    low, high = interval_of_share(pandas.DataFrame({"right": [1.0] * 16 + [0.0] * 4, "cluster": range(20)}))
    assert (label.n, label.recall) == (20 * rows_each, 0.8)
    assert (label.low, label.high) == pytest.approx((low, high), abs=0.02)
    assert (pair.low, pair.high) == pytest.approx((1 - high, 1 - low), abs=0.02)
    apart = frame.drop(columns="cluster")
    (alone,) = weakest(Evidence("r", Measured({"classes": classes(apart)}, frame=apart)))
    assert alone.high - alone.low == pytest.approx((high - low) / rows_each**0.5, rel=0.15)


def test_a_label_of_many_a_row_is_found_row_by_row() -> None:
    frame = pandas.DataFrame({"gold_labels": [["a", "b"], ["a"], []], "answer_labels": [["a"], [], ["b"]]})
    found = {label: list(part["right"]) for label, part in recalled(frame).items()}
    assert found == {"a": [1.0, 0.0], "b": [0.0]}


def test_a_taggers_entities_of_one_text_are_a_cluster() -> None:
    texts = [("B-PER O B-PER I-PER", "B-PER O O O"), ("B-LOC O", "B-LOC O"), ("O", "B-LOC")]
    frame = pandas.DataFrame(texts, columns=["gold", "answer"]).assign(entities=[2, 1, 0])
    found = recalled(frame)
    assert list(found["PER"]["right"]) == [1.0, 0.0] and found["PER"]["cluster"].nunique() == 1
    assert list(found["LOC"]["right"]) == [1.0]
    (person,) = [
        row for row in weakest(Evidence("r", Measured({"classes": types(frame)}, frame=frame))) if row.name == "PER"
    ]
    assert (person.n, person.recall, person.low, person.high) == (
        2,
        0.5,
        pytest.approx(0, abs=0.05),
        pytest.approx(1, abs=0.05),
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_recall_is_as_scikit_learn_has_it(rows: list[tuple[str, str]]) -> None:
    frame = answered(rows)
    theirs = classes(frame)
    for row in weakest(Evidence("r", Measured({"classes": theirs}, frame=frame))):
        assert (row.n, row.recall) == (theirs[row.name]["n"], pytest.approx(theirs[row.name]["recall"]))
        assert 0 <= row.low <= row.recall + 1e-9 and row.recall - 1e-9 <= row.high <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_every_wrong_row_is_in_one_pair(rows: list[tuple[str, str]]) -> None:
    assert sum(pair.rows for pair in confused(answered(rows))) == sum(gold != answer for gold, answer in rows)


def test_nobody_who_gives_no_probabilities_is_confused() -> None:
    frame = pandas.DataFrame({"gold": ["a"], "answer": ["b"]})
    many = frame.assign(confidence=0.9, gold_labels=pandas.Series([["a"]]))
    assert confused(None) == confused(frame) == confused(many) == []
    assert matrix(None) is matrix(frame) is matrix(many) is None


def test_the_matrix_counts_every_row_once_and_shares_are_of_the_gold_label() -> None:
    frame = judged.predictions(1, 0.8)
    found = matrix(frame)
    assert found is not None and found.answers == [*judged.LABELS] == [label for label, _ in found.rows]
    assert sum(count for _, counts in found.rows for count, _ in counts) == len(frame)
    for label, counts in found.rows:
        assert sum(share for _, share in counts) == pytest.approx(1)
        assert sum(count for count, _ in counts) == (frame["gold"] == label).sum()


def test_of_many_labels_there_is_no_cropped_matrix() -> None:
    labels = [f"label-{number:02}" for number in range(MOST_LABELS + 1)]
    assert matrix(answered([(label, label) for label in labels])) is None
    assert matrix(answered([(label, label) for label in labels[1:]])) is not None
