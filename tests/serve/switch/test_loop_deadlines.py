"""A task that takes longer than it is meant to is ended; a watch may be extended, and waits for a person for as long as
that takes."""

from __future__ import annotations

import pytest

from infra.state.start_time import LONGEST_SECONDS
from serve.plan.action import Action
from serve.plan.interrupt import WATCHES
from serve.record.fold import fold
from serve.record.state import State
from serve.switch.loop import is_overdue
from tests.serve.record.test_drift_reasons import GOOD, event
from tests.support.planner_world import settings_of

pytestmark = pytest.mark.unit
CONFIG = settings_of(bake_seconds=100, drain_deadline_seconds=20, watch={"extend_seconds": 1_000})
WAITS = fold([*GOOD[:-1], event("inconclusive", "green", why="few came", then="pause")])
PAUSED = fold([*GOOD[:-1], event("paused")])


def test_a_bake_has_its_time_its_extension_and_the_drain() -> None:
    rest = CONFIG.supervision.task_deadline_seconds
    assert not is_overdue(Action("bake", "green"), 1_119 + rest, State(), CONFIG)
    assert is_overdue(Action("bake", "green"), 1_121 + rest, State(), CONFIG)


def test_a_start_is_ended_by_its_proof_never_before_it_by_the_loop() -> None:
    """The proof knows the release's size; the loop is there for a proof that hangs."""
    healthy, rest = Action("prove", "green", proof="healthy"), CONFIG.supervision.task_deadline_seconds
    assert not is_overdue(healthy, LONGEST_SECONDS + rest - 1, State(), CONFIG)
    assert is_overdue(healthy, LONGEST_SECONDS + rest + 1, State(), CONFIG)
    stated = CONFIG.model_copy(update={"start_timeout_seconds": 100})
    assert is_overdue(healthy, 101 + rest, State(), stated)


@pytest.mark.parametrize("state", [WAITS, PAUSED], ids=["inconclusive", "paused"])
def test_a_watch_that_waits_for_a_person_has_no_deadline_and_a_proof_has(state: State) -> None:
    for kind in sorted(WATCHES):
        assert is_overdue(Action(kind, "green"), 1e9, State(), CONFIG)
        assert not is_overdue(Action(kind, "green"), 1e9, state, CONFIG)
    assert is_overdue(Action("prove", "green", proof="warm"), 1e9, state, CONFIG)
