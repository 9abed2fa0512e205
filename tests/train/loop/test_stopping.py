"""When training is given up: what is no number, what explodes, what stands still, and what is halved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.training.train import Divergence
from train.loop.stopping import find_divergence, has_stalled, is_new_best, smaller_micro_batch

pytestmark = pytest.mark.unit
RULE = Divergence(factor=3, window=5, patience=2)


def log(*losses: float) -> list[dict[str, Any]]:
    return [{"step": index + 1, "loss": loss, "grad_norm": 1.0} for index, loss in enumerate(losses)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["loss", "grad_norm", "eval_loss"])
def test_what_is_no_number_is_a_divergence_at_once(name: str, value: float) -> None:
    assert find_divergence([{name: value}], RULE) == f"{name} is {value}"


def test_losses_far_above_the_running_median_are_a_divergence_when_they_stay() -> None:
    calm = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    assert find_divergence(log(*calm, 9.0), RULE) is None, "one hard batch"
    assert find_divergence(log(*calm, 9.0, 1.5, 9.0), RULE) is None, "not in a row"
    assert "2 losses in a row above 3 times the median" in str(find_divergence(log(*calm, 9.0, 9.5), RULE))


def test_a_training_that_has_learned_its_rows_may_jump_below_its_first_loss() -> None:
    assert find_divergence(log(2.0, 0.5, 0.01, 0.01, 0.01, 0.01, 1.9, 1.9), RULE) is None
    assert find_divergence(log(2.0, 0.5, 0.01, 0.01, 0.01, 0.01, 2.1, 2.1), RULE)


@given(st.lists(st.floats(0.001, 100), max_size=40).map(lambda values: sorted(values, reverse=True)))
def test_a_falling_loss_never_diverges(losses: list[float]) -> None:
    assert find_divergence(log(*losses), RULE) is None


@given(st.lists(st.floats(0.001, 100), max_size=6))
def test_before_the_window_is_full_only_what_is_no_number_counts(losses: list[float]) -> None:
    assert find_divergence(log(*losses), RULE) is None


@pytest.mark.parametrize(
    ("losses", "patience", "stalled"),
    [
        ([3, 2, 1], 1, False),
        ([3, 2, 2], 1, True),
        ([3, 2, 2.5, 1.9], 2, False),
        ([3, 2, 2.5, 2.1], 2, True),
        ([3], 1, False),
        ([3, 4, 5], None, False),
        ([], 1, False),
    ],
)
def test_validation_stands_still_without_a_new_best(losses: list[float], patience: int | None, stalled: bool) -> None:
    lines = [line for loss in losses for line in ({"loss": 9.0}, {"eval_loss": loss})]
    assert has_stalled(lines, patience) is stalled


@given(st.integers(2, 65_536))
def test_a_smaller_micro_batch_keeps_the_effective_batch(size: int) -> None:
    smaller = smaller_micro_batch(size)
    assert smaller is not None and size % smaller == 0 and 1 <= smaller <= size / 2


def test_one_row_cannot_be_halved() -> None:
    assert smaller_micro_batch(1) is None and smaller_micro_batch(6) == 3 and smaller_micro_batch(7) == 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.booleans())
def test_a_new_best_is_strictly_better_than_all_before_in_the_goals_direction(found: list[float], more: bool) -> None:
    history: list[dict[str, Any]] = [{"loss": 1.0} | {"eval_x": value} for value in found]
    best = (max if more else min)(found)
    assert is_new_best(history, ("eval_x", more)) == (found[-1] == best and found.count(best) == 1)
    assert not is_new_best([], ("eval_x", more)) and not is_new_best([{"loss": 1.0}], ("eval_x", more))
    for patience in (1, 2, 3):
        turned: list[dict[str, Any]] = [{"eval_loss": -value if more else value} for value in found]
        assert has_stalled(history, patience, ("eval_x", more)) == has_stalled(turned, patience)


def test_a_tagger_whose_loss_falls_has_not_stalled_though_it_finds_no_entity_yet() -> None:
    goal = ("eval_entity_f1", True)
    falling = [{"eval_entity_f1": 0.0, "eval_loss": loss} for loss in (0.9, 0.8, 0.7, 0.6)]
    assert not has_stalled(falling, 2, goal)
    assert has_stalled([*falling, *({"eval_entity_f1": 0.0, "eval_loss": loss} for loss in (0.6, 0.7))], 2, goal)
    assert not is_new_best(falling, goal), "the first one of those that find nothing stays the best"
