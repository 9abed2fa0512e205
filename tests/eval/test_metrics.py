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


TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]), min_size=1, max_size=8)


def tagged(gold: list[str], said: list[str]) -> dict[str, Any]:
    answer = Answer(" ".join(said), None, None, None, 0.1, 0, labels=said, confidences=[1.0] * len(said))
    return score("token-classification", {"id": "1", "tokens": ["w"] * len(gold), "tags": gold}, answer)


def test_entities_count_whole_and_by_kind() -> None:
    row = tagged(["B-PER", "I-PER", "O", "B-ORG"], ["B-PER", "O", "O", "B-ORG"])
    assert (row["entities"], row["entities_found"], row["entities_wrong"]) == (2, 1, 1) and row["correct"] == 0 and row["token_accuracy"] == 0.75
    figures = summarise("token-classification", [row, tagged(["O", "B-ORG"], ["O", "B-ORG"])])
    assert figures["entity_precision"] == figures["entity_recall"] == figures["entity_f1"] == pytest.approx(2 / 3)
    assert figures["sentence_accuracy"] == 0.5


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6))
def test_the_f1_of_entities_is_that_of_their_counts_over_all_sentences(pairs: list[tuple[list[str], list[str]]]) -> None:
    rows = [tagged(gold, (said * len(gold))[: len(gold)]) for gold, said in pairs]
    found, wrong, wanted = (sum(row[key] for row in rows) for key in ("entities_found", "entities_wrong", "entities"))
    figures = summarise("token-classification", rows)
    assert figures["entity_f1"] == pytest.approx(2 * found / (found + wrong + wanted) if found else 0)
    assert all(0 <= value <= 1 for value in figures.values())


def labelled(gold: list[str], said: list[str]) -> dict[str, Any]:
    answer = Answer("", None, None, None, 0.1, 0, labels=said)
    return score("sequence-classification", {"id": "1", "text": "t", "labels": gold}, answer)


def test_many_labels_are_right_together_or_not_at_all() -> None:
    rows = [labelled(["a", "b"], ["b", "a"]), labelled(["a"], ["a", "b"]), labelled([], [])]
    figures = summarise("sequence-classification", rows)
    assert [row["correct"] for row in rows] == [1, 0, 1] and figures["subset_accuracy"] == pytest.approx(2 / 3)
    assert figures["micro_f1"] == pytest.approx(6 / 7) and figures["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert summarise("sequence-classification", [labelled([], [])]) == {"subset_accuracy": 1.0}, "no label at all has no F1"


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=20))
def test_errors_of_numbers_follow_their_definitions(pairs: list[tuple[float, float]]) -> None:
    answers = [Answer("", None, None, None, 0.1, 0, value=said) for _, said in pairs]
    figures = summarise(
        "sequence-classification", [score("sequence-classification", {"id": "1", "value": gold}, one) for (gold, _), one in zip(pairs, answers, strict=True)]
    )
    assert figures["mean_absolute_error"] == pytest.approx(sum(abs(gold - said) for gold, said in pairs) / len(pairs))
    assert figures["mean_absolute_error"] <= figures["root_mean_squared_error"] + 1e-9
    assert math.isnan(figures["spearman"]) or -1.0001 <= figures["spearman"] <= 1.0001


def test_the_order_of_numbers_is_spearmans() -> None:
    rows = [{"gold": gold, "answer": said, "absolute_error": abs(gold - said)} for gold, said in ((1.0, 10.0), (2.0, 20.0), (3.0, 90.0))]
    assert summarise("sequence-classification", rows)["spearman"] == pytest.approx(1)
    assert math.isnan(summarise("sequence-classification", [row | {"answer": 1.0} for row in rows])["spearman"]), "a constant orders nothing"


def test_perplexity_is_per_token_over_all_texts() -> None:
    rows = [score("causal-lm", {"id": "1", "text": "t"}, Answer("", None, None, None, 0.1, 0, logprob=-n * math.log(8), scored_tokens=n)) for n in (1, 5)]
    assert summarise("causal-lm", rows) == {"perplexity": pytest.approx(8)}


def test_a_preference_is_right_where_the_chosen_answer_is_likelier() -> None:
    pair = {"id": "1", "reference": "yes", "rejected": "no"}
    rows = [score("causal-lm", pair, Answer("yes", None, None, None, 0.1, 1, logprob=-1.0, rejected_logprob=other)) for other in (-3.0, -0.5, -1.0)]
    figures = summarise("causal-lm", rows)
    assert [row["preferred"] for row in rows] == [1, 0, 0], "a tie is no preference"
    assert figures["preference_accuracy"] == pytest.approx(1 / 3) and figures["exact_match"] == 1
