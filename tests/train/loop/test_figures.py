"""Validation's figures are those of seqeval and scikit-learn; a constant answer's loss is a lower bound."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.run.config import RunConfig
from tests.support.run_yaml import GOOD
from train.loop.figures import describe_answers, goal_of, loss_of_constant

pytestmark = pytest.mark.unit
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
tags = st.lists(st.sampled_from(range(len(TAGS))), min_size=1, max_size=12)
pairs_of_classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(st.lists(st.tuples(tags, tags), min_size=1, max_size=8))
def test_entity_f1_is_that_of_seqeval(rows: list[tuple[list[int], list[int]]]) -> None:
    from seqeval.metrics import f1_score

    pairs = [(gold[: len(answered)], answered[: len(gold)]) for gold, answered in rows]
    gold, answered = ([[TAGS[tag] for tag in row[side]] for row in pairs] for side in (0, 1))
    figures = describe_answers("tags", pairs, TAGS)
    assert figures["entity_f1"] == pytest.approx(f1_score(gold, answered, zero_division=0))
    assert figures["distinct_answers"] == len({tag for row in answered for tag in row})


@given(pairs_of_classes)
def test_class_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, answered = zip(*pairs, strict=True)
    figures = describe_answers("single_label", pairs, list("abcd"))
    assert figures["macro_f1"] == pytest.approx(f1_score(gold, answered, average="macro"))
    assert figures["accuracy"] == pytest.approx(accuracy_score(gold, answered))


@given(st.lists(st.tuples(*[st.tuples(*[st.integers(0, 1)] * 3)] * 2), min_size=1, max_size=20))
def test_micro_f1_is_that_of_scikit_learn(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    from sklearn.metrics import f1_score

    gold, answered = (numpy.array(side) for side in zip(*pairs, strict=True))
    found = describe_answers("multi_label", pairs, list("abc"))["micro_f1"]
    assert found == pytest.approx(f1_score(gold, answered, average="micro", zero_division=0))


def test_numbers_have_an_error_and_a_correlation() -> None:
    figures = describe_answers("regression", [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)], [])
    assert figures == {"mean_absolute_error": 1.0, "correlation": pytest.approx(1.0)}
    assert describe_answers("regression", [(1.0, 2.0), (2.0, 2.0)], [])["correlation"] == 0.0


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_no_constant_distribution_has_a_lower_loss(gold: list[int], weights: list[float]) -> None:
    shares = numpy.array(weights) / sum(weights)
    loss = float(-numpy.log(shares[gold]).mean())
    for kind, rows in (("single_label", gold), ("tags", [[one] for one in gold])):
        bound: Any = loss_of_constant(kind, [(one, one) for one in rows])  # type: ignore[arg-type]
        assert bound <= loss + 1e-9


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(-100, 100))
def test_no_constant_number_has_a_lower_squared_error(gold: list[float], answer: float) -> None:
    bound: Any = loss_of_constant("regression", [(one, answer) for one in gold])
    assert bound <= numpy.square(numpy.array(gold) - answer).mean() + 1e-6


@pytest.mark.parametrize(
    ("task", "problem", "wanted", "goal"),
    [
        ("token-classification", "single_label", "auto", ("eval_entity_f1", True)),
        ("token-classification", "single_label", "loss", ("eval_loss", False)),
        ("sequence-classification", "single_label", "auto", ("eval_loss", False)),
        ("sequence-classification", "single_label", "metric", ("eval_macro_f1", True)),
        ("sequence-classification", "multi_label", "metric", ("eval_micro_f1", True)),
        ("sequence-classification", "regression", "metric", ("eval_mean_absolute_error", False)),
        ("causal-lm", "single_label", "auto", ("eval_loss", False)),
    ],
)
def test_the_best_checkpoint_goes_by_the_tasks_metric_where_it_is_asked_for(
    task: str, problem: str, wanted: str, goal: tuple[str, bool]
) -> None:
    given = {"task": task, "problem": problem, "data": {"source": "files", "files": ["x.jsonl"]}}
    config = RunConfig.model_validate(GOOD | given | {"train": {"max_steps": 1, "best_by": wanted}})
    assert goal_of(config) == goal
