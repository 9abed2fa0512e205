"""What one key may ask of the door: requests a minute, tokens a minute, requests at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from infra.haproxy.api_keys import KeyLimits, Keyring
from tests.infra.conftest import OpenDoor

pytestmark = pytest.mark.integration


def key_with(door: OpenDoor, name: str = "team", **limits: int) -> str:
    return Keyring(door.router.config).add(name, KeyLimits.model_validate(limits))


def refused(reply: httpx.Response) -> bool:
    """A 429 as the openai SDK wants it: a JSON error and a time to come back."""
    if reply.status_code != 429:
        return False
    assert int(reply.headers["retry-after"]) >= 1 and reply.json()["error"]["type"] == "rate_limit_error"
    return True


def test_requests_a_minute_are_counted_by_name_and_refused_ones_are_not(door: OpenDoor) -> None:
    secret, other = key_with(door, requests_per_minute=3), key_with(door, "other", requests_per_minute=3)
    assert [refused(door.ask(key=secret, json={})) for _ in range(6)] == [False] * 3 + [True] * 3
    rotated = Keyring(door.router.config).rotate("team", 60)
    assert refused(door.ask(key=rotated, json={})), "a new key is no new allowance"
    assert not refused(door.ask(key=other, json={})) and not refused(door.ask(json={}))
    assert len(door.arrivals) == 5


def test_requests_at_once_are_bounded_and_free_again_when_one_ends(door: OpenDoor) -> None:
    secret = key_with(door, concurrent=2)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: door.ask(key=secret, json={"hold": 1}), range(6)))
    assert sorted(reply.status_code for reply in replies) == [200, 200, 429, 429, 429, 429]
    assert all(refused(reply) for reply in replies if reply.status_code != 200)
    assert door.ask(key=secret, json={}).status_code == 200


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 1}, 100),
        ({"max_output_tokens": 100}, 100),
        ({"max_tokens": 50, "n": 2}, 100),
        ({"max_tokens": -1000}, 1024),
        ({}, 1024),
        ({"max_tokens": 10, "filler": "x" * 400}, 110),
    ],
)
def test_tokens_a_minute_are_reserved_from_what_the_body_asks(door: OpenDoor, body: dict[str, object], cost: int) -> None:
    """Three fit and a fourth does not; the bytes of the body itself are less than 0.2 of the cost."""
    secret = key_with(door, tokens_per_minute=int(3.7 * cost) if cost > 100 else 390)
    assert [refused(door.ask(key=secret, json=body)) for _ in range(4)] == [False, False, False, True]
    assert len(door.arrivals) == 3


def test_an_answer_bound_beyond_all_measure_is_refused_and_takes_nothing(door: OpenDoor) -> None:
    secret = key_with(door, tokens_per_minute=1000)
    for bound in (2**31, 2**62, 10**30):
        assert refused(door.ask(key=secret, json={"max_tokens": bound}))
    assert not refused(door.ask(key=secret, json={"max_tokens": 900}))


def test_a_prompt_larger_than_a_network_buffer_is_read_too(door: OpenDoor) -> None:
    secret = key_with(door, tokens_per_minute=200_000)
    body = {"messages": "y" * 600_000, "max_tokens": 49_000}
    assert [refused(door.ask(key=secret, json=body)) for _ in range(2)] == [False, True]


def test_a_classifier_writes_no_tokens_and_models_cost_none(door: OpenDoor) -> None:
    secret = key_with(door, tokens_per_minute=20)
    assert not refused(door.ask(path="/classify", key=secret, json={"input": ["x"]}))
    assert not refused(door.ask("GET", "/v1/models", key=secret))
    assert refused(door.ask(key=secret, json={}))
