"""The loss curve in the terminal: every validation a point, as wide as asked, the best one named."""

from __future__ import annotations

from typing import Any

import pytest

from train.loop.loss_curve import draw_losses

pytestmark = pytest.mark.unit


def record(steps: int) -> Any:
    """As much of a training record as is drawn."""
    losses = [{"step": step, "loss": 3 / step} for step in range(1, steps + 1)]
    return {
        "losses": losses,
        "validation": [{"step": steps, "eval_loss": 2.5}],
        "best_validation_loss": 2.5,
        "best_step": steps,
    }


@pytest.mark.parametrize("width", [60, 80])
def test_the_curve_is_as_wide_as_the_terminal_and_holds_no_escape_codes(width: int) -> None:
    drawn = draw_losses(record(30), "demo", width)
    assert {len(line) for line in drawn.splitlines() if line} <= {width} and "\x1b" not in drawn
    assert "best 2.5 at step 30" in drawn and drawn.count("●") == 2, "one validation, and its name in the title"


def test_a_training_of_one_step_is_drawn_too_and_nothing_is_left_of_the_one_before() -> None:
    draw_losses(record(30), "before", 80)
    assert "before" not in draw_losses(record(1), "demo", 80)
