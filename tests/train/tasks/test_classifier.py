"""What a classifier's trainer reports besides the loss."""

from __future__ import annotations

import pytest

from train.tasks.classifier import accuracy

pytestmark = pytest.mark.unit


def test_accuracy_is_the_share_of_likeliest_classes_that_are_gold() -> None:
    import numpy
    from transformers import EvalPrediction

    logits = numpy.array([[0.1, 0.9], [2.0, -1.0], [0.0, 1.0], [3.0, 1.0]])
    assert accuracy(EvalPrediction(predictions=logits, label_ids=numpy.array([1, 0, 0, 0]))) == {"accuracy": 0.75}
