"""Figures of classifiers against scikit-learn itself and against their definitions."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from configs.run.evaluate import Evaluate
from eval.metrics.aggregate import figure
from eval.metrics.score import score
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
NAMES = ("bad", "good", "mixed")


def answered(gold: str, probs: dict[str, float] | None, label: str | None = None) -> Any:
    predicted = label or max(probs or {"bad": 1.0}, key=(probs or {"bad": 1.0}).__getitem__)
    return score(
        "sequence-classification",
        {"id": gold, "text": "t", "label": gold},
        Answer(predicted, predicted, probs, None, 0.1, 0),
        Evaluate(),
    )


def chosen(gold: list[str], predicted: list[str], probs: dict[str, float]) -> Any:
    answer = Answer("", None, probs, None, 0.1, 0, labels=predicted)
    return score("sequence-classification", {"id": "1", "text": "t", "labels": gold}, answer, Evaluate())


@st.composite
def classified(draw: Any, names: tuple[str, ...] = NAMES) -> list[tuple[str, dict[str, float]]]:
    weights = st.lists(
        st.integers(1, 100), min_size=len(names), max_size=len(names)
    )  # equal shares are equal floats: a tie on one side is one on the other
    rows = draw(st.lists(st.tuples(st.sampled_from(names), weights), min_size=2, max_size=25))
    return [
        (gold, {name: value / sum(found) for name, value in zip(names, found, strict=True)}) for gold, found in rows
    ]


def test_a_row_holds_what_was_asked_answered_and_how_surely() -> None:
    row = answered("good", {"bad": 0.2, "good": 0.8})
    assert row == {
        "id": "good",
        "gold": "good",
        "answer": "good",
        "correct": 1.0,
        "log_loss": pytest.approx(-math.log(0.8)),
        "brier": pytest.approx(0.04),
        "probabilities": '{"bad": 0.2, "good": 0.8}',
        "confidence": 0.8,
        "latency_seconds": 0.1,
        "prompt_tokens": None,
        "completion_tokens": 0,
    }


@pytest.mark.parametrize("probs", [None, {}, {"bad": 1.0}, {"bad": 1.0, "good": 0.0}])
def test_a_gold_label_without_probability_costs_much_and_stays_finite(probs: dict[str, float] | None) -> None:
    assert answered("good", probs)["log_loss"] == pytest.approx(15 * math.log(10))


def test_a_probability_that_is_no_number_reaches_the_figure() -> None:
    """An infinite figure is no evidence; a clamp would have made it some."""
    frame = pandas.DataFrame(
        [answered("good", {"bad": 0.5, "good": math.nan}), answered("good", {"bad": 0.5, "good": 0.5})]
    )
    assert [figure(name, frame) for name in ("log_loss", "brier")] == [math.inf, math.inf] and math.isnan(
        figure("roc_auc", frame)
    )


@given(classified())
def test_every_figure_of_one_label_is_scikit_learns(rows: list[tuple[str, dict[str, float]]]) -> None:
    frame = pandas.DataFrame([answered(*row) for row in rows])
    gold, predicted = frame["gold"].tolist(), frame["answer"].tolist()
    for average in ("micro", "macro"):
        for name, one in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            assert figure(f"{average}_{name}", frame) == pytest.approx(
                one(gold, predicted, average=average, zero_division=0)
            )
    assert (
        figure("accuracy", frame)
        == pytest.approx(sk.accuracy_score(gold, predicted))
        == pytest.approx(figure("micro_f1", frame))
    )
    wanted = sk.matthews_corrcoef(gold, predicted) if len({*gold, *predicted}) > 1 else math.nan
    assert figure("matthews_correlation", frame) == pytest.approx(wanted, nan_ok=True)
    table = [[probs[name] for name in NAMES] for _, probs in rows]
    assert figure("log_loss", frame) == pytest.approx(sk.log_loss(gold, table, labels=NAMES))
    assert figure("brier", frame) == pytest.approx(sk.brier_score_loss(gold, table, labels=NAMES))
    wanted = sk.f1_score(gold, predicted, labels=["good"], average="macro", zero_division=0)
    assert (
        figure("f1:good", frame) == pytest.approx(wanted)
        if "good" in gold + predicted
        else math.isnan(figure("f1:good", frame))
    )


@given(classified())
def test_areas_are_means_over_the_labels_that_some_rows_have_and_others_not(
    rows: list[tuple[str, dict[str, float]]],
) -> None:
    frame, areas = (
        pandas.DataFrame([answered(*row) for row in rows]),
        {"roc_auc": sk.roc_auc_score, "pr_auc": sk.average_precision_score},
    )
    for name, one in areas.items():
        truths = {label: [gold == label for gold, _ in rows] for label in NAMES}
        found = [
            one(true, [probs[label] for _, probs in rows])
            for label, true in truths.items()
            if 0 < sum(true) < len(rows)
        ]
        assert (
            figure(name, frame) == pytest.approx(sum(found) / len(found)) if found else math.isnan(figure(name, frame))
        )


@given(classified(("no", "yes")))
def test_of_two_labels_the_area_and_the_brier_score_are_the_usual_ones(
    rows: list[tuple[str, dict[str, float]]],
) -> None:
    frame, true = pandas.DataFrame([answered(*row) for row in rows]), [gold == "yes" for gold, _ in rows]
    assert figure("brier", frame) == pytest.approx(sk.brier_score_loss(true, [probs["yes"] for _, probs in rows]))
    if 0 < sum(true) < len(true):
        assert figure("roc_auc", frame) == pytest.approx(sk.roc_auc_score(true, [probs["yes"] for _, probs in rows]))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_the_papers_sum_over_fifteen_bins(pairs: list[tuple[float, bool]]) -> None:
    frame = pandas.DataFrame(pairs, columns=["confidence", "correct"]).astype(float)
    total = 0.0
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        inside = [pair for pair in pairs if low < pair[0] <= high or (index == 0 and pair[0] == 0)]
        total += abs(sum(right - sure for sure, right in inside)) / len(pairs)
    near_an_edge = any(abs(sure * 15 - round(sure * 15)) < 1e-9 for sure, _ in pairs)
    assert near_an_edge or figure("expected_calibration_error", frame) == pytest.approx(total)


def test_what_is_said_with_the_confidence_it_deserves_has_no_error() -> None:
    frame = pandas.DataFrame({"confidence": [0.75] * 4, "correct": [1.0, 1.0, 1.0, 0.0]})
    assert figure("expected_calibration_error", frame) == pytest.approx(0)
    assert figure("expected_calibration_error", frame.assign(confidence=1.0)) == pytest.approx(0.25)


SETS = st.lists(st.sampled_from("abc"), unique=True)


@given(
    st.lists(st.tuples(SETS, SETS, st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3)), min_size=2, max_size=15)
)
def test_every_figure_of_many_labels_is_scikit_learns(rows: list[tuple[list[str], list[str], list[float]]]) -> None:
    frame = pandas.DataFrame(
        [chosen(gold, predicted, dict(zip("abc", probs, strict=True))) for gold, predicted, probs in rows]
    )
    gold, predicted = (numpy.array([[label in row[place] for label in "abc"] for row in rows]) for place in (0, 1))
    occurring = (gold | predicted).any(axis=0)
    for average in ("micro", "macro"):
        wanted = (
            sk.f1_score(gold[:, occurring], predicted[:, occurring], average=average, zero_division=0)
            if occurring.any()
            else math.nan
        )
        assert figure(f"{average}_f1", frame) == pytest.approx(wanted, nan_ok=True)
    probs = numpy.array([row[2] for row in rows])
    assert figure("log_loss", frame) == pytest.approx(numpy.mean(-numpy.log(numpy.where(gold, probs, 1 - probs))))
    assert figure("brier", frame) == pytest.approx(numpy.mean((probs - gold) ** 2))
    varied = [place for place in range(3) if 0 < gold[:, place].sum() < len(rows)]
    if varied:
        assert figure("roc_auc", frame) == pytest.approx(
            sk.roc_auc_score(gold[:, varied], probs[:, varied], average="macro")
        )
    assert figure("subset_accuracy", frame) == pytest.approx((gold == predicted).all(axis=1).mean())


def test_many_labels_are_right_together_or_not_at_all() -> None:
    rows = [
        chosen(["a", "b"], ["b", "a"], {"a": 0.9, "b": 0.9}),
        chosen(["a"], ["a", "b"], {"a": 0.9, "b": 0.9}),
        chosen([], [], {"a": 0.1, "b": 0.1}),
    ]
    assert [row["correct"] for row in rows] == [1, 0, 1] and json.loads(rows[0]["probabilities"]) == {
        "a": 0.9,
        "b": 0.9,
    }
    assert figure("micro_f1", pandas.DataFrame(rows)) == pytest.approx(6 / 7)
    assert math.isnan(figure("micro_f1", pandas.DataFrame(rows[2:]))), "no label at all has no F1"


def test_macro_f1_shows_the_class_that_accuracy_hides() -> None:
    frame = pandas.DataFrame(
        [answered("good", {"good": 1.0, "bad": 0.0})] * 9 + [answered("bad", {"good": 1.0, "bad": 0.0})]
    )
    assert figure("accuracy", frame) == 0.9 and figure("macro_f1", frame) == pytest.approx(9 / 19)
