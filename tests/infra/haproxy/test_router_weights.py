"""Shares of the users, sticky; and the router held while no slot serves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from infra.haproxy import config
from infra.haproxy.router import bucket_of
from tests.infra.conftest import RunningProxy
from tests.serve.conftest import free_ports

USERS = [f"user-{number}" for number in range(60)]


def slots_of(proxy: RunningProxy) -> dict[str, str]:
    with httpx.Client(headers={"Authorization": "Bearer sesame-open"}) as client:
        return {
            user: client.post(
                proxy.router.base_url + "/v1/chat/completions", json={}, headers={"x-tunegate-sticky": user}
            ).headers["x-tunegate-slot"]
            for user in USERS
        }


@pytest.mark.integration
def test_a_user_stays_and_more_green_moves_users_to_green_only(proxy: RunningProxy) -> None:
    before: set[str] = set()
    for green in (0, 5, 25, 60, 100):
        proxy.router.set_weights({"blue": 100 - green, "green": green})
        assert proxy.router.weights() == {"blue": 100 - green, "green": green}
        seen = slots_of(proxy)
        assert {user for user, slot in seen.items() if slot == "green"} == {
            user for user in USERS if bucket_of(user) < green
        }
        now = {user for user, slot in seen.items() if slot == "green"}
        assert before <= now
        before = now
    assert before == set(USERS)


@pytest.mark.integration
def test_without_a_sticky_header_the_key_decides(proxy: RunningProxy) -> None:
    bucket = bucket_of("default")
    proxy.router.set_weights({"blue": 100 - bucket, "green": bucket})
    assert {proxy.ask(json={}).headers["x-tunegate-slot"] for _ in range(5)} == {"blue"}
    proxy.router.set_weights({"blue": 99 - bucket, "green": bucket + 1})
    assert {proxy.ask(json={}).headers["x-tunegate-slot"] for _ in range(5)} == {"green"}


@pytest.mark.integration
def test_a_change_of_weights_cuts_no_open_stream(proxy: RunningProxy) -> None:
    with httpx.stream(
        "POST",
        proxy.router.base_url + "/v1/chat/completions",
        json={"chunks": 10},
        headers={"Authorization": "Bearer sesame-open"},
    ) as reply:
        chunks = reply.iter_text()
        first = next(chunks)
        proxy.router.set_weights({"blue": 0, "green": 100})
        assert (first + "".join(chunks)).split() == [str(number) for number in range(10)]
    assert reply.headers["x-tunegate-slot"] == "blue"


@pytest.mark.integration
def test_the_larger_weight_is_the_active_slot_and_a_restart_keeps_both(proxy: RunningProxy) -> None:
    proxy.router.set_weights({"blue": 95, "green": 5})
    assert proxy.router.active() == "blue"
    proxy.router.stop(0)
    proxy.router.start("sesame-open")
    assert proxy.router.weights() == {"blue": 95, "green": 5}
    proxy.router.set_weights({"green": 51, "blue": 49})
    assert proxy.router.active() == "green"


@pytest.mark.integration
@pytest.mark.parametrize("weights", [{"blue": 50}, {"blue": 101, "green": -1}, {"blue": 90, "green": 20}, {}])
def test_weights_that_are_no_shares_are_refused_and_change_nothing(
    proxy: RunningProxy, weights: dict[str, int]
) -> None:
    with pytest.raises(InputError, match="sum to 100"):
        proxy.router.set_weights(weights)  # type: ignore[arg-type]  # wrong on purpose
    assert proxy.router.weights() == {"blue": 100, "green": 0}


@pytest.mark.integration
def test_requests_sent_while_paused_are_all_answered_after_resume(proxy: RunningProxy) -> None:
    proxy.router.pause()
    assert proxy.router.is_paused()
    with ThreadPoolExecutor(24) as pool:
        sent = [pool.submit(proxy.ask, json={"number": number}) for number in range(24)]
        time.sleep(0.5)
        assert proxy.arrivals == [] and not any(one.done() for one in sent)
        proxy.router.switch("green")
        proxy.router.resume()
        replies = [one.result() for one in sent]
    assert {(reply.status_code, reply.headers["x-tunegate-slot"]) for reply in replies} == {(200, "green")}
    assert len(proxy.arrivals) == 24


@pytest.mark.integration
def test_a_crowd_that_a_model_server_is_too_slow_to_let_in_waits_and_is_not_refused(
    start_proxy: Callable[..., RunningProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "BACKLOG", 8)
    proxy = start_proxy()
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port), backlog=8) as listener, ThreadPoolExecutor(24) as pool:
        proxy.router.set_server("green", port)
        proxy.router.switch("green")
        sent = [pool.submit(proxy.ask, json={}) for _ in range(24)]
        time.sleep(1)
        assert not any(one.done() for one in sent), "a full backlog is no outage"
        threading.Thread(target=answer_all, args=(listener,), daemon=True).start()
        assert {one.result().status_code for one in sent} == {200}


def answer_all(listener: socket.socket) -> None:
    """One after the other; a check says nothing and hangs up."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            if connection.recv(65_536):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.integration
def test_a_pause_leaves_open_streams_alone_and_tells_the_load_balancer(proxy: RunningProxy) -> None:
    replies: list[httpx.Response] = []
    stream = threading.Thread(target=lambda: replies.append(proxy.ask(json={"chunks": 8})))
    stream.start()
    while not proxy.arrivals:
        time.sleep(0.01)
    proxy.router.pause()
    assert proxy.ask("GET", "/health").status_code == 503
    stream.join()
    assert replies[0].text.split() == [str(number) for number in range(8)]
    proxy.router.resume()
    assert proxy.ask("GET", "/health").status_code == 200


@pytest.mark.integration
def test_who_waits_past_the_bound_is_told_when_to_come_back(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(queue_seconds=1)
    proxy.router.pause()
    reply = proxy.ask(json={})
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) > 0 and proxy.arrivals == []
    assert reply.json()["error"]["type"] == "server_error"


@pytest.mark.integration
def test_a_restarted_router_is_still_paused(proxy: RunningProxy) -> None:
    proxy.router.pause()
    proxy.router.stop(0)
    proxy.router.start("sesame-open")
    assert proxy.router.is_paused()
    proxy.router.resume()
    assert proxy.ask(json={}).status_code == 200


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
