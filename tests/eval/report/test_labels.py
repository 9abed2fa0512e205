"""Of tens of labels those that are weak, and which are taken for which."""

from __future__ import annotations

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.classification import classes
from eval.report.labels import MOST_LABELS, Pair, confused, matrix, weakest
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
    assert confused(mine, answered([("a", "b")])) == [Pair("a", "b", 3, 0.3, 1), Pair("b", "a", 1, 1.0, 0)]
    assert confused(mine)[0].reference is None and len(confused(mine, most=1)) == 1


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
