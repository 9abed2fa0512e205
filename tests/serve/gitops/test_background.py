"""An errand runs beside the agent: one at a time, collected once, its failure told until it is over, its waits longer each time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import serve.gitops.background
from configs.errors import OutsideError, RefusedError
from serve.gitops.background import LONGEST_WAIT_SECONDS, Errand

pytestmark = pytest.mark.unit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(serve.gitops.background, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def fail(error: Exception) -> object:
    raise error


def test_what_it_brought_is_collected_once_and_only_then_it_goes_again(clock: SimpleNamespace) -> None:
    errand: Errand[str] = Errand(10)
    assert errand.begin(lambda: "first")
    errand.wait(10)
    clock.now += 100
    assert not errand.begin(lambda: "second")
    assert (errand.collect(), errand.collect()) == ("first", None)
    assert errand.begin(lambda: "second")


def test_one_at_a_time_and_a_far_side_that_hangs_holds_nobody_up(clock: SimpleNamespace) -> None:
    errand, go = Errand[bool](1), threading.Event()
    assert errand.begin(lambda: go.wait(60))
    clock.now += 1000
    assert not errand.begin(lambda: True) and errand.collect() is None and errand.is_under_way
    go.set()
    errand.wait(10)
    assert errand.collect() is True


def test_its_failure_is_told_until_a_later_one_succeeds(clock: SimpleNamespace) -> None:
    errand = Errand[object](1)
    errand.begin(lambda: fail(OutsideError("the remote is gone")))
    errand.wait(10)
    for _ in range(2):
        with pytest.raises(OutsideError, match="the remote is gone"):
            errand.collect()
    clock.now += 10
    errand.begin(lambda: "here")
    errand.wait(10)
    assert errand.collect() == "here" and errand.failures == 0


def test_what_nobody_foresaw_is_told_as_well() -> None:
    errand = Errand[object](1)
    errand.begin(lambda: fail(ZeroDivisionError("by nought")))
    errand.wait(10)
    with pytest.raises(OutsideError, match="ZeroDivisionError: by nought"):
        errand.collect()


def test_hastened_it_goes_at_once_and_once_more_where_one_is_under_way(clock: SimpleNamespace) -> None:
    errand = Errand[str](100)
    errand.run(lambda: "first")
    assert errand.collect() == "first" and not errand.begin(lambda: "too early")
    errand.hasten()
    assert errand.begin(lambda: errand.hasten() or "second")
    errand.wait(10)
    assert errand.collect() == "second" and errand.begin(lambda: "third")
    errand.wait(10)
    assert errand.collect() == "third" and not errand.begin(lambda: "too early")


def test_after_a_refusal_it_looks_again_as_soon_as_ever_for_that_was_an_answer(clock: SimpleNamespace) -> None:
    errand = Errand[object](7)
    for _ in range(5):
        errand.run(lambda: fail(RefusedError("forced")))
        assert errand.due == clock.now + 7


@given(every=st.floats(0, 600), failures=st.integers(1, 40))
def test_the_wait_doubles_with_each_failure_up_to_five_minutes_and_is_never_shorter_than_usual(every: float, failures: int) -> None:
    errand, waits = Errand[object](every), []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(serve.gitops.background, "time", SimpleNamespace(monotonic=lambda: 0.0))
        for _ in range(failures):
            errand.run(lambda: fail(OutsideError("no")))
            waits.append(errand.due)
        assert waits == sorted(waits) and waits[0] == max(every, min(LONGEST_WAIT_SECONDS, 2 * max(every, 1))) and waits[-1] <= max(every, LONGEST_WAIT_SECONDS)
        errand.run(lambda: "here")
        assert errand.due == every
