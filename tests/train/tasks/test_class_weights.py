"""What a class weighs in the loss: scikit-learn's balance, PyTorch's weights, and no more of a step than before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import KINDS, of_kind, write_prepared
from train.batches.collate import IGNORED
from train.finetune import finetune
from train.loop.figures import goal_of
from train.tasks.class_weights import binary_cross_entropy, count, in_order, weighted_loss
from train.tasks.cross_entropy import cross_entropy

pytestmark = pytest.mark.unit
LABELS = ["bad", "good"]
ROWS = Dataset.from_dict({"label": ["good"] * 9 + ["bad"]})


def asking(weights: Any) -> Any:
    return SimpleNamespace(train=SimpleNamespace(class_weights=weights, label_smoothing=0.0))


def loss_of(loss: Any, logits: list[Any], targets: Any, **named: Any) -> float:
    return float(loss(SimpleNamespace(logits=torch.tensor(logits)), torch.tensor(targets), **named))


def test_balanced_is_scikit_learns() -> None:
    loss = weighted_loss(asking("balanced"), ROWS, LABELS)
    bad, good = compute_class_weight("balanced", classes=numpy.array(LABELS), y=numpy.array(ROWS["label"]))
    plain = cross_entropy
    for target, weight in ((0, bad), (1, good)):
        assert loss_of(loss, [[0.3, -0.2]], [target]) == pytest.approx(weight * loss_of(plain, [[0.3, -0.2]], [target]))


@pytest.mark.parametrize("weights", [{"bad": 9.0}, {"bad": 90.0, "good": 10.0}])
def test_only_the_ratio_of_weights_counts(weights: dict[str, float]) -> None:
    """Their mean over the train rows is 1: nine rows of good and one of bad."""
    loss = weighted_loss(asking(weights), ROWS, LABELS)
    logits, targets = [[0.0, 0.0]] * 10, [1] * 9 + [0]
    assert loss_of(loss, logits, targets) == pytest.approx(loss_of(cross_entropy, logits, targets))
    assert loss_of(loss, logits[:1], [0]) == pytest.approx(9 * loss_of(loss, logits[:1], [1]))


def test_a_step_is_divided_by_all_its_rows_and_not_by_a_micro_batchs() -> None:
    loss = weighted_loss(asking({"bad": 3.0}), ROWS, LABELS)
    logits, targets = [[0.4, 0.1], [0.2, -0.3], [0.0, 1.0]], [0, 1, 1]
    whole = loss_of(loss, logits, targets)
    parts = loss_of(loss, logits[:1], targets[:1], num_items_in_batch=3) + loss_of(
        loss, logits[1:], targets[1:], num_items_in_batch=3
    )
    assert whole == pytest.approx(parts)


def test_validation_has_the_plain_loss() -> None:
    """And the best checkpoint is then the metric's."""
    logits, targets = [[0.3, -0.2], [0.0, 1.0]], [0, 1]
    with torch.no_grad():
        assert loss_of(weighted_loss(asking({"bad": 9.0}), ROWS, LABELS), logits, targets) == pytest.approx(
            loss_of(cross_entropy, logits, targets)
        )
        many = weighted_loss(asking({"a": 9.0}), Dataset.from_dict({"labels": [["a"], []]}), ["a", "b"])
        assert loss_of(many, logits, [[1.0, 0.0]] * 2) == pytest.approx(
            loss_of(binary_cross_entropy([1, 1]), logits, [[1.0, 0.0]] * 2)
        )


def test_without_weights_the_loss_is_pytorchs() -> None:
    assert weighted_loss(asking(None), ROWS, LABELS) is None
    logits, targets = torch.randn(4, 3, 2), torch.tensor([[0, 1, IGNORED], [1, IGNORED, IGNORED], [0, 0, 1], [1, 1, 0]])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert cross_entropy(SimpleNamespace(logits=logits), targets) == pytest.approx(expected)
    many, has = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(many, has)
    assert binary_cross_entropy([1, 1, 1])(SimpleNamespace(logits=many), has) == pytest.approx(expected)


def test_of_many_labels_the_rows_that_have_one_weigh_as_much_as_the_others() -> None:
    rows = Dataset.from_dict({"labels": [["a"], ["a", "b"], ["a"], []]})
    loss = weighted_loss(asking("balanced"), rows, ["a", "b"])
    has, has_not = loss_of(loss, [[0.0, 0.0]], [[0.0, 1.0]]), loss_of(loss, [[0.0, 0.0]], [[0.0, 0.0]])
    ln2 = float(torch.tensor(2.0).log())
    assert (has, has_not) == (pytest.approx((ln2 + 3 * ln2) / 2), pytest.approx(ln2))


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ({"PER": 2.0}, [1, 2, 2, 1]),
        ({"PER": 2.0, "I-PER": 5.0}, [1, 2, 5, 1]),
        ({"O": 0.5, "B-creative-work": 3.0}, [0.5, 1, 1, 3]),
        ({"creative-work": 3.0}, [1, 1, 1, 3]),
    ],
)
def test_a_type_of_entity_is_all_its_tags(asked: dict[str, float], weights: list[float]) -> None:
    assert in_order(asked, ["O", "B-PER", "I-PER", "B-creative-work"]) == weights


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="found odd, expected some of bad, good"):
        weighted_loss(asking({"odd": 2.0}), ROWS, LABELS)


def test_words_are_counted_by_tag() -> None:
    assert count(Dataset.from_dict({"tags": [["O", "B-X"], ["O"]]}), "tags") == {"O": 2, "B-X": 1}


@pytest.mark.parametrize("kind", ["tags", "many labels"])
def test_a_training_takes_them(classifier: Callable[..., RunConfig], checkout: Path, kind: str) -> None:
    facts = KINDS[kind][2:]
    config, paths = of_kind(classifier(train={"class_weights": "balanced"}), kind), RunPaths.of("x")
    write_prepared(paths, Path("tiny-bert"), *facts)
    tracker = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)
    weighted = finetune(config, paths, tracker)["losses"]
    plain = of_kind(classifier(), kind)
    paths = RunPaths.of("y")
    write_prepared(paths, Path("tiny-bert"), *facts)
    assert weighted[0]["loss"] != finetune(plain, paths, tracker)["losses"][0]["loss"]


@pytest.mark.parametrize(("best_by", "goal"), [("auto", "eval_macro_f1"), ("loss", "eval_loss")])
def test_the_best_checkpoint_is_the_metrics(classifier: Callable[..., RunConfig], best_by: str, goal: str) -> None:
    assert goal_of(classifier(train={"class_weights": "balanced", "best_by": best_by}))[0] == goal


def test_check_refuses_weights_where_there_are_no_classes(
    classifier: Callable[..., RunConfig], chat: Callable[..., RunConfig]
) -> None:
    weights = {"train": {"class_weights": "balanced"}}
    with pytest.raises(ValidationError, match="only with labels or tags"):
        chat(**weights)
    with pytest.raises(ValidationError, match="only with labels or tags"):
        of_kind(classifier(**weights), "numbers")
    with pytest.raises(ValidationError, match="lacks odd"):
        classifier(train={"class_weights": {"odd": 2}}, data={"labels": ["bad", "good"]})
