"""A training that gets no further is given up after so many starts, one that does never."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.engines.restarts import Attempts, newest_step, once_more

pytestmark = pytest.mark.unit


@given(steps=st.lists(st.integers(0, 5), max_size=30), allowed=st.integers(0, 4))
def test_only_starts_in_a_row_without_a_newer_checkpoint_count(steps: list[int], allowed: int) -> None:
    attempts, newest, barren = Attempts(), 0, 0
    for step in steps:
        attempts = attempts.after(step)
        barren, newest = (0, step) if step > newest else (barren + 1, newest)
        assert (attempts.without_progress, attempts.step) == (barren, newest)
        assert (attempts.without_progress <= allowed) == (barren <= allowed)


def test_the_count_outlives_who_counted(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    assert newest_step(checkpoints) == 0
    assert once_more(tmp_path, checkpoints, 1) and not once_more(tmp_path, checkpoints, 1)
    for step, whole in ((8, True), (16, False)):
        (checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        if whole:
            (checkpoints / f"checkpoint-{step}" / "complete").touch()
    assert newest_step(checkpoints) == 8 and once_more(tmp_path, checkpoints, 1)
