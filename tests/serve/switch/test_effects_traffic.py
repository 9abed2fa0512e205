"""The effects on traffic: the switch is believed once the router shows it, and a slot retires without its streams or at
a deadline."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import ExternalError
from serve.record.environment import Environment
from serve.record.receipt import last_switch
from serve.switch.servers import wait_for_streams
from serve.switch.traffic import router_client, traffic_of, wait_for_slot
from tests.support.fake_machine import NONE, World, do, env, release, world

__all__ = ["env", "release", "world"]
pytestmark = pytest.mark.unit
WAIT_FOR_SLOT = wait_for_slot


def test_switching_twice_is_switching_once(world: World, env: Environment, release: str) -> None:
    do(env, "start_router")
    do(env, "start", "blue", release=release)
    world.count("green", open=5)
    first, second = (do(env, "switch", "blue") for _ in range(2))
    assert first.active == second.active == world.routed == "blue" and second.moves.switching is None
    before, after = last_switch(first), last_switch(second)
    assert (before["from"], before["streams_open_at_switch"]) == (None, 0)
    assert after["before"] == {slot: vars(one) for slot, one in world.counts.items()}


@pytest.mark.parametrize("fault", ["router", "server"])
def test_a_switch_that_is_not_seen_through_the_router_stays_an_intent(
    world: World, env: Environment, release: str, fault: str
) -> None:
    do(env, "start_router")
    do(env, "start", "blue", release=release)
    if fault == "router":
        world.fails = {"switch blue": ExternalError("no")}
    else:
        world.servers.clear()
    with pytest.raises(ExternalError):
        do(env, "switch", "blue")
    assert (env.record.state().moves.switching, env.record.state().active) == ("blue", None)


@pytest.mark.parametrize(("streams", "why", "waited"), [(0, "streams zero", 0), (3, "deadline", 20)])
def test_a_slot_retires_at_zero_streams_or_at_the_deadline_and_the_record_says_which(
    world: World, env: Environment, release: str, streams: int, why: str, waited: int
) -> None:
    do(env, "start_router")
    do(env, "start", "green", release=release)
    world.count("green", open=streams)
    began = world.now
    assert do(env, "stop", "green").slots["green"] is None and world.servers == {}
    facts = env.record.read()[-1].facts
    assert (
        facts["release"] == release
        and (facts["streams_open"], facts["why"]) == (streams, why)
        and facts["drain_seconds"] >= waited
    )
    assert (world.now - began).total_seconds() == pytest.approx(waited, abs=0.3)
    do(env, "stop", "green")
    assert world.done.count("stop green") == 1


def test_a_dead_server_is_retired_without_waiting_for_its_streams(world: World, env: Environment, release: str) -> None:
    do(env, "start_router")
    do(env, "start", "green", release=release)
    world.servers.clear()
    world.count("green", open=3)
    began = world.now
    do(env, "stop", "green")
    assert world.now == began and env.record.read()[-1].facts["why"] == "streams zero"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams=st.integers(0, 8), every=st.integers(1, 8), seconds=st.floats(0, 5))
def test_streams_are_waited_for_until_zero_or_the_deadline(
    world: World, env: Environment, streams: int, every: int, seconds: float
) -> None:
    """One stream ends with every `every`-th look, four looks a second."""
    looks, began, world.router_up = 0, world.now, True
    world.count("blue", open=streams)

    def look() -> None:
        nonlocal looks
        looks += 1
        world.count("blue", open=max(0, streams - looks // every))

    world.on_sleep = look
    left, waited = wait_for_streams(env, "blue", seconds), (world.now - began).total_seconds()
    assert left == world.counts["blue"].open and waited <= seconds + 0.25
    assert left == 0 or waited >= seconds - 1e-3
    assert waited == 0 or (streams and waited <= 0.25 * streams * every)


def test_a_closed_router_has_no_streams(world: World, env: Environment) -> None:
    world.count("blue", open=3)
    assert traffic_of(env, "blue") == NONE and wait_for_streams(env, "blue", 60) == 0


def replies(monkeypatch: pytest.MonkeyPatch, *answers: str | None) -> list[httpx.Request]:
    """The router answers from these slots in turn, the last for ever; None refuses the connection."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        slot = answers[min(len(seen), len(answers)) - 1]
        if slot is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, headers={"x-tunegate-slot": slot})

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **facts: real(transport=httpx.MockTransport(answer), **facts))
    return seen


def test_a_switch_is_believed_once_the_router_answers_from_the_slot(
    world: World, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = replies(monkeypatch, "blue", None, "blue", "green")
    WAIT_FOR_SLOT(env, "green", router_client())
    assert len(seen) == 4 and seen[0].url == "http://router/health"


def test_of_several_routers_each_must_answer_from_the_slot(
    world: World, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.base_urls = ("http://one", "http://two")
    seen = replies(monkeypatch, "green", "blue", "green", "blue", "green", "green")
    WAIT_FOR_SLOT(env, "green", router_client())
    assert [request.url.host for request in seen] == ["one", "two"] * 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [("blue", "still answers from blue, not from green"), (None, "still answers from ConnectError")],
)
def test_a_router_that_goes_on_answering_from_elsewhere_is_an_outside_error(
    world: World, env: Environment, monkeypatch: pytest.MonkeyPatch, answer: str | None, message: str
) -> None:
    replies(monkeypatch, answer)
    with pytest.raises(ExternalError, match=message):
        WAIT_FOR_SLOT(env, "green", router_client(), seconds=0.1)
