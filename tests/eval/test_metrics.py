"""One row's outcome and the figures of many, for both tasks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import score, summarise
from infra.endpoint import Answer

pytestmark = pytest.mark.unit
LABELS = st.sampled_from(["bad", "good", "mixed"])
ROW = {"id": "1", "text": "a fine film", "label": "good"}


def classified(label: str, probs: dict[str, float] | None) -> Answer:
    return Answer(label, label, probs, None, 0.25, 0)


def test_a_classifiers_row_holds_what_was_asked_answered_and_how_surely() -> None:
    row = score("sequence-classification", ROW, classified("good", {"bad": 0.2, "good": 0.8}))
    assert row == {
        "id": "1", "latency_seconds": 0.25, "gold": "good", "answer": "good", "correct": 1.0, "probability": 0.8, "loss": pytest.approx(-math.log(0.8)),
    }  # fmt: skip


@pytest.mark.parametrize("probs", [None, {}, {"bad": 1.0}, {"bad": 1.0, "good": 0.0}])
def test_a_gold_label_without_probability_costs_much_and_stays_finite(probs: dict[str, float] | None) -> None:
    row = score("sequence-classification", ROW, classified("bad", probs))
    assert (row["correct"], row["probability"]) == (0.0, 0.0) and row["loss"] == pytest.approx(15 * math.log(10))


def test_a_probability_that_is_no_number_reaches_the_sum() -> None:
    """The gate calls a NaN inconclusive; a clamp would have made it a figure."""
    row = score("sequence-classification", ROW, classified("good", {"good": math.nan}))
    assert math.isnan(summarise("sequence-classification", [row])["log_loss"])


@pytest.mark.parametrize(
    ("text", "outcome"), [('{"name": "f", "arguments": {"a": 1}}', (1, 1, 1)), ("f(a=1)", (1, 0, 1)), ("f(a=2)", (0, 0, 1)), ("no call", (0, 0, 0))]
)
def test_a_gpts_row_holds_the_calls_three_outcomes(text: str, outcome: tuple[int, int, int]) -> None:
    reference = '{"name": "f", "accepted": {"a": [1]}}'
    row = score("causal-lm", {"id": "1", "reference": reference}, Answer(text, None, None, -0.1, 0.5, 9))
    assert (row["correct"], row["valid_json"], row["name_match"]) == outcome
    assert (row["id"], row["gold"], row["answer"], row["latency_seconds"]) == ("1", reference, text, 0.5)


def test_a_gpts_figures_are_means_over_all_rows() -> None:
    rows = [{"correct": float(i < 1), "name_match": float(i < 3), "valid_json": float(i < 2)} for i in range(4)]
    assert summarise("causal-lm", rows) == {"exact_match": 0.25, "name_match": 0.75, "valid_json": 0.5}


def rows_of(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"gold": gold, "answer": answer, "correct": float(gold == answer), "loss": float(i)} for i, (gold, answer) in enumerate(pairs)]


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_a_classifiers_figures_follow_their_definitions(pairs: list[tuple[str, str]]) -> None:
    scores = []
    for label in {label for pair in pairs for label in pair}:
        right, said, gold = pairs.count((label, label)), sum(answer == label for _, answer in pairs), sum(one == label for one, _ in pairs)
        scores.append(2 * right / (said + gold))
    figures = summarise("sequence-classification", rows_of(pairs))
    assert figures["accuracy"] == pytest.approx(sum(gold == answer for gold, answer in pairs) / len(pairs))
    assert figures["macro_f1"] == pytest.approx(sum(scores) / len(scores))
    assert figures["log_loss"] == pytest.approx((len(pairs) - 1) / 2)


def test_macro_f1_shows_the_class_that_accuracy_hides() -> None:
    figures = summarise("sequence-classification", rows_of([("good", "good")] * 9 + [("bad", "good")]))
    assert figures["accuracy"] == 0.9 and figures["macro_f1"] == pytest.approx(9 / 19)
