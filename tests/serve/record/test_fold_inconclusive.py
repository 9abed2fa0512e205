"""A watch that could not tell is remembered until it is settled, and only a person's `resume` settles it as it is."""

from __future__ import annotations

import pytest

from serve.record.event import Event
from serve.record.fold import fold
from tests.serve.record.test_drift_reasons import GOOD, event
from tests.support.planner_world import NEXT, OLD

pytestmark = pytest.mark.unit
BAKING = GOOD[:-1]
EXTENDED = event("inconclusive", "green", why="few came", then="extend", seconds=600)
WAITS = event("inconclusive", "green", why="still few", then="pause")


def test_a_person_is_waited_for_once_the_extension_is_over_and_resume_is_their_word() -> None:
    assert fold([*BAKING, EXTENDED]).awaits_person is None
    assert fold([*BAKING, EXTENDED, WAITS]).awaits_person == "still few"
    accepted = fold([*BAKING, EXTENDED, WAITS, event("resumed")])
    assert accepted.awaits_person is None and accepted.inconclusive == {"why": "still few", "then": "accept"}
    extended = fold([*BAKING, EXTENDED, event("paused"), event("resumed")]).inconclusive
    assert extended and extended["then"] == "extend", "a pause of their own said nothing of it"


@pytest.mark.parametrize(
    "last",
    [
        event("baked", "green"),
        event("analysed", "green"),
        event("desired", release=NEXT),
        event("desired", release=OLD, rollback=True),
        event("held", release=OLD),
        event("aborted", why="by the operator"),
        event("refused", why="a breach"),
        event("switched", "green", before={}, **{"from": "blue"}),
        event("stopped", "green", why="stop"),
    ],
    ids=lambda last: last.kind,
)
def test_whatever_settles_or_calls_off_the_watch_ends_it(last: Event) -> None:
    assert fold([*BAKING, WAITS, last]).inconclusive is None
