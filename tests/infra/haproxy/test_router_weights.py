"""Shares of the users, sticky; and the door held while no slot serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from infra.haproxy.router import bucket_of
from tests.infra.conftest import OpenDoor

USERS = [f"user-{number}" for number in range(60)]


def slots_of(door: OpenDoor) -> dict[str, str]:
    with httpx.Client(headers={"Authorization": "Bearer sesame-open"}) as client:
        return {
            user: client.post(door.router.base_url + "/v1/chat/completions", json={}, headers={"x-tunegate-sticky": user}).headers["x-tunegate-slot"]
            for user in USERS
        }


@pytest.mark.integration
def test_a_user_stays_and_more_green_moves_users_to_green_only(door: OpenDoor) -> None:
    before: set[str] = set()
    for green in (0, 5, 25, 60, 100):
        door.router.set_weights({"blue": 100 - green, "green": green})
        assert door.router.weights() == {"blue": 100 - green, "green": green}
        seen = slots_of(door)
        assert {user for user, slot in seen.items() if slot == "green"} == {user for user in USERS if bucket_of(user) < green}
        now = {user for user, slot in seen.items() if slot == "green"}
        assert before <= now
        before = now
    assert before == set(USERS)


@pytest.mark.integration
def test_without_a_sticky_header_the_key_decides(door: OpenDoor) -> None:
    bucket = bucket_of("default")
    door.router.set_weights({"blue": 100 - bucket, "green": bucket})
    assert {door.ask(json={}).headers["x-tunegate-slot"] for _ in range(5)} == {"blue"}
    door.router.set_weights({"blue": 99 - bucket, "green": bucket + 1})
    assert {door.ask(json={}).headers["x-tunegate-slot"] for _ in range(5)} == {"green"}


@pytest.mark.integration
def test_a_change_of_weights_cuts_no_open_stream(door: OpenDoor) -> None:
    with httpx.stream("POST", door.router.base_url + "/v1/chat/completions", json={"chunks": 10}, headers={"Authorization": "Bearer sesame-open"}) as reply:
        chunks = reply.iter_text()
        first = next(chunks)
        door.router.set_weights({"blue": 0, "green": 100})
        assert (first + "".join(chunks)).split() == [str(number) for number in range(10)]
    assert reply.headers["x-tunegate-slot"] == "blue"


@pytest.mark.integration
def test_the_larger_weight_is_the_active_slot_and_a_restart_keeps_both(door: OpenDoor) -> None:
    door.router.set_weights({"blue": 95, "green": 5})
    assert door.router.active() == "blue"
    door.router.stop(0)
    door.router.start("sesame-open")
    assert door.router.weights() == {"blue": 95, "green": 5}
    door.router.set_weights({"green": 51, "blue": 49})
    assert door.router.active() == "green"


@pytest.mark.integration
@pytest.mark.parametrize("weights", [{"blue": 50}, {"blue": 101, "green": -1}, {"blue": 90, "green": 20}, {}])
def test_weights_that_are_no_shares_are_refused_and_change_nothing(door: OpenDoor, weights: dict[str, int]) -> None:
    with pytest.raises(InputError, match="sum to 100"):
        door.router.set_weights(weights)  # type: ignore[arg-type]  # wrong on purpose
    assert door.router.weights() == {"blue": 100, "green": 0}


@pytest.mark.integration
def test_requests_sent_while_paused_are_all_answered_after_resume(door: OpenDoor) -> None:
    door.router.pause()
    assert door.router.is_paused()
    with ThreadPoolExecutor(24) as pool:
        sent = [pool.submit(door.ask, json={"number": number}) for number in range(24)]
        time.sleep(0.5)
        assert door.arrivals == [] and not any(one.done() for one in sent)
        door.router.switch("green")
        door.router.resume()
        replies = [one.result() for one in sent]
    assert {(reply.status_code, reply.headers["x-tunegate-slot"]) for reply in replies} == {(200, "green")}
    assert len(door.arrivals) == 24


@pytest.mark.integration
def test_a_pause_leaves_open_streams_alone_and_tells_the_load_balancer(door: OpenDoor) -> None:
    replies: list[httpx.Response] = []
    stream = threading.Thread(target=lambda: replies.append(door.ask(json={"chunks": 8})))
    stream.start()
    while not door.arrivals:
        time.sleep(0.01)
    door.router.pause()
    assert door.ask("GET", "/health").status_code == 503
    stream.join()
    assert replies[0].text.split() == [str(number) for number in range(8)]
    door.router.resume()
    assert door.ask("GET", "/health").status_code == 200


@pytest.mark.integration
def test_who_waits_past_the_bound_is_told_when_to_come_back(open_door: Callable[..., OpenDoor]) -> None:
    door = open_door(queue_seconds=1)
    door.router.pause()
    reply = door.ask(json={})
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) > 0 and door.arrivals == []
    assert reply.json()["error"]["type"] == "server_error"


@pytest.mark.integration
def test_a_restarted_door_is_still_paused(door: OpenDoor) -> None:
    door.router.pause()
    door.router.stop(0)
    door.router.start("sesame-open")
    assert door.router.is_paused()
    door.router.resume()
    assert door.ask(json={}).status_code == 200


@pytest.mark.unit
@given(st.text())
def test_every_user_has_one_of_a_hundred_buckets(user: str) -> None:
    assert 0 <= bucket_of(user) < 100


@pytest.mark.unit
def test_buckets_are_even() -> None:
    """20,000 users: a bucket expects 200, standard deviation 14; 80 is more than five of them."""
    counts = [0] * 100
    for number in range(20_000):
        counts[bucket_of(f"key-{number}")] += 1
    assert max(abs(count - 200) for count in counts) < 80
