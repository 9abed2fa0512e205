"""Moments and processes as no step of the wall clock moves them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.boot import Moment, ProcessId, identify, is_alive, is_taken, now

pytestmark = pytest.mark.unit
SECONDS = st.floats(0, 1e8)
ANY_CLOCK = st.floats(-2e9, 2e9)


@given(SECONDS, SECONDS, ANY_CLOCK, ANY_CLOCK)
def test_within_a_boot_the_wall_clock_has_no_say(first: float, later: float, clock: float, stepped: float) -> None:
    begun = Moment(clock, "a", first)
    assert Moment(stepped, "a", first + later).since(begun) == pytest.approx(later, abs=1e-6)


@given(SECONDS, SECONDS, ANY_CLOCK, ANY_CLOCK)
def test_of_an_earlier_boot_time_goes_on_whatever_the_clock_says(
    uptime: float, more: float, clock: float, stepped: float
) -> None:
    begun, here = Moment(clock, "a", 7.0), Moment(stepped, "b", uptime)
    assert here.since(begun) >= uptime
    assert here._replace(uptime=uptime + more).since(begun) >= more


@given(ANY_CLOCK, ANY_CLOCK)
def test_of_a_record_without_boots_only_the_clock_is_known_and_no_time_is_negative(clock: float, later: float) -> None:
    assert Moment(later, "b", 10.0).since(Moment(clock)) == max(later - clock, 0.0)


def test_time_passes_and_reads_as_people_write_it() -> None:
    begun = now()
    assert 0 <= now().since(begun) < 60 and begun.iso.endswith("+00:00") and len(begun.boot) == 12


@given(st.integers(-(10**9), 10**9).filter(bool))
def test_another_process_with_the_same_pid_is_not_this_one(ticks: int) -> None:
    me = identify(os.getpid())
    assert me is not None and is_alive(me) and not is_taken(me)
    for other in (me._replace(ticks=me.ticks + ticks), me._replace(boot="another")):
        assert not is_alive(other) and is_taken(other)


def test_a_pid_that_nobody_has_is_nobody() -> None:
    assert identify(2**22 + 1) is None and not is_alive(ProcessId(2**22 + 1, now().boot, 1))
