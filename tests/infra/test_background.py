"""An task runs beside the agent: one at a time, collected once, its failure told until it is over, its waits longer
each time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infra.background
from configs.errors import ExternalError, RefusedError
from infra.background import LONGEST_WAIT_SECONDS, BackgroundTask

pytestmark = pytest.mark.unit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(infra.background, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def fail(error: Exception) -> object:
    raise error


def test_what_it_brought_is_collected_once_and_only_then_it_goes_again(clock: SimpleNamespace) -> None:
    task: BackgroundTask[str] = BackgroundTask(10)
    assert task.begin(lambda: "first")
    task.wait(10)
    clock.now += 100
    assert not task.begin(lambda: "second")
    assert (task.result(), task.result()) == ("first", None)
    assert task.begin(lambda: "second")


def test_one_at_a_time_and_a_far_side_that_hangs_holds_nobody_up(clock: SimpleNamespace) -> None:
    task, go = BackgroundTask[bool](1), threading.Event()
    assert task.begin(lambda: go.wait(60))
    clock.now += 1000
    assert not task.begin(lambda: True) and task.result() is None and task.is_under_way
    go.set()
    task.wait(10)
    assert task.result() is True


def test_its_failure_is_told_until_a_later_one_succeeds(clock: SimpleNamespace) -> None:
    task = BackgroundTask[object](1)
    task.begin(lambda: fail(ExternalError("the remote is gone")))
    task.wait(10)
    for _ in range(2):
        with pytest.raises(ExternalError, match="the remote is gone"):
            task.result()
    clock.now += 10
    task.begin(lambda: "here")
    task.wait(10)
    assert task.result() == "here" and task.failures == 0


def test_what_nobody_foresaw_is_told_as_well() -> None:
    task = BackgroundTask[object](1)
    task.begin(lambda: fail(ZeroDivisionError("by nought")))
    task.wait(10)
    with pytest.raises(ExternalError, match="ZeroDivisionError: by nought"):
        task.result()


def test_triggered_it_goes_at_once_and_once_more_where_one_is_under_way(clock: SimpleNamespace) -> None:
    task = BackgroundTask[str](100)
    task.run(lambda: "first")
    assert task.result() == "first" and not task.begin(lambda: "too early")
    task.trigger()

    def look() -> str:
        task.trigger()  # while it is under way
        return "second"

    assert task.begin(look)
    task.wait(10)
    assert task.result() == "second" and task.begin(lambda: "third")
    task.wait(10)
    assert task.result() == "third" and not task.begin(lambda: "too early")


def test_after_a_refusal_it_looks_again_as_soon_as_ever_for_that_was_an_answer(clock: SimpleNamespace) -> None:
    task = BackgroundTask[object](7)
    for _ in range(5):
        task.run(lambda: fail(RefusedError("forced")))
        assert task.due == clock.now + 7


@given(every=st.floats(0, 600), failures=st.integers(1, 40))
def test_the_wait_doubles_with_each_failure_up_to_five_minutes_and_is_never_shorter_than_usual(
    every: float, failures: int
) -> None:
    task, waits = BackgroundTask[object](every), []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(infra.background, "time", SimpleNamespace(monotonic=lambda: 0.0))
        for _ in range(failures):
            task.run(lambda: fail(ExternalError("no")))
            waits.append(task.due)
        assert (
            waits == sorted(waits)
            and waits[0] == max(every, min(LONGEST_WAIT_SECONDS, 2 * max(every, 1)))
            and waits[-1] <= max(every, LONGEST_WAIT_SECONDS)
        )
        task.run(lambda: "here")
        assert task.due == every
