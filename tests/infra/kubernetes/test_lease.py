"""Two agents and one Lease, before a fake API server; the clock is the tests'."""

from __future__ import annotations

import pytest

from configs.errors import InputError, UnreachableError
from infra.kubernetes import lease as module
from infra.kubernetes.api import Cluster
from infra.kubernetes.lease import DURATION_SECONDS, Lease, held
from tests.support.fake_cluster import NAMESPACE, FakeApi, api, cluster_config

__all__ = ["api"]
pytestmark = pytest.mark.unit


class Clock:
    """Of one machine; another one's wall clock may say anything."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def lease(holder: str) -> Lease:
    return Lease(Cluster(NAMESPACE), "x-agent", {}, holder)


def test_one_holds_it_at_a_time_and_the_next_takes_it_when_it_was_not_renewed(api: FakeApi, clock: Clock) -> None:
    one, two = lease("one"), lease("two")
    assert one.try_acquire() and one.holds
    assert not two.try_acquire() and not two.holds
    clock.now += DURATION_SECONDS - 1
    assert one.try_acquire()
    clock.now += 2
    assert not two.try_acquire(), "it was renewed, whenever two first saw it"
    clock.now += DURATION_SECONDS + 1
    assert two.try_acquire() and not one.holds
    assert not one.try_acquire()
    assert api.things["leases", "x-agent"]["spec"]["leaseTransitions"] == 2


def test_who_cannot_renew_it_stops_before_another_may_begin(api: FakeApi, clock: Clock) -> None:
    one, two = lease("one"), lease("two")
    one.try_acquire()
    two.try_acquire()
    began = clock.now
    while not two.try_acquire():
        clock.now += 0.5
        assert one.holds or clock.now - began > DURATION_SECONDS / 2
    assert not one.holds


@pytest.mark.parametrize("renewed", ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
def test_the_holders_wall_clock_decides_nothing(api: FakeApi, clock: Clock, renewed: str) -> None:
    lease("one").try_acquire()
    api.things["leases", "x-agent"]["spec"]["renewTime"] = renewed
    two = lease("two")
    assert not two.try_acquire()
    clock.now += DURATION_SECONDS + 1
    assert two.try_acquire()


def test_of_two_who_take_a_free_one_at_once_one_has_it(
    api: FakeApi, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease("one").try_acquire()
    clock.now += DURATION_SECONDS + 1
    two, three = lease("two"), lease("three")
    two.try_acquire()
    three.try_acquire()
    clock.now += DURATION_SECONDS + 1
    read = Cluster.read
    stale = read(two.cluster, "Lease", "x-agent")
    monkeypatch.setattr(Cluster, "read", lambda *_: stale)
    assert [two.try_acquire(), three.try_acquire()] == [True, False]


def test_it_is_given_back_at_the_end_and_a_second_agent_is_told_who_has_it(api: FakeApi, clock: Clock) -> None:
    config = cluster_config()
    with held(config) as mine:
        assert mine.holds
        other = lease("other")
        assert not other.try_acquire()
    assert other.try_acquire(), "at once"
    other_renews = Cluster.read

    def renewed(cluster: Cluster, kind: str, name: str) -> object:
        found = other_renews(cluster, kind, name)
        assert found
        found["spec"]["renewTime"] = f"2026-01-01T00:00:{int(clock.now) % 60:02d}.000000Z"
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cluster, "read", renewed)
        with pytest.raises(InputError, match="another agent holds the Lease x-agent"), held(config):
            raise AssertionError


def test_while_nobody_can_say_whose_it_is_nobody_begins(api: FakeApi, clock: Clock) -> None:
    api.mode = "down"
    with pytest.raises(UnreachableError), held(cluster_config()):
        raise AssertionError
