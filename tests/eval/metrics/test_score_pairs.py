"""A reward model's pairs, and answers that were bad on purpose."""

from __future__ import annotations

import math
from typing import Any

import pandas
import pytest

from configs.run.evaluate import Evaluate
from configs.run.metrics import REPORTED
from eval.metrics.aggregate import figure
from eval.metrics.score import kind_of, score
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
TURNS = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "good"}]


def rewarded(chosen: float | None, rejected: float | None) -> Answer:
    return Answer("", None, None, None, 0.1, 0, value=chosen, rejected_value=rejected)


def test_a_reward_model_is_right_where_the_chosen_answers_number_is_larger() -> None:
    row: dict[str, Any] = {"id": "1", "messages": TURNS, "rejected": "bad", "reference": "good"}
    answers = [rewarded(2.0, -1.0), rewarded(0.5, 0.5), rewarded(-1.0, 1.0)]
    frame = pandas.DataFrame([score("sequence-classification", row, one, Evaluate()) for one in answers])
    assert kind_of("sequence-classification", row) == "pair"
    found = {name: figure(name, frame) for name in REPORTED["pair"]}
    assert math.isnan(found.pop("prompt_tokens")), "the server counted none"
    assert list(found.values()) == pytest.approx([1 / 3, 1 / 3, 0.1])
    missing = score("sequence-classification", row, rewarded(2.0, None), Evaluate())
    assert missing["preferred"] == 0 and missing["preference_margin"] == -math.inf, "absence prefers nothing"


def test_a_bad_answer_is_no_reference_and_only_good_ones_are_scored() -> None:
    rows = [{"id": str(good), "messages": TURNS, "desirable": good, "reference": "good"} for good in (True, False)]
    answer = Answer("good", None, None, None, 0.1, 1)
    frame = pandas.DataFrame([score("causal-lm", row, answer, Evaluate()) for row in rows])
    assert figure("exact_match", frame) == 1 and frame["correct"].isna().tolist() == [False, True]
    assert frame["answer"].tolist() == ["good", "good"] and frame["token_f1"].notna().sum() == 1
