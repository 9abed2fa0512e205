"""What users asked of a server is summed up by how alike it is: by the middleware as requests pass, and read back."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.vllm import strata
from infra.vllm.counters import read_strata
from infra.vllm.strata import COLUMNS, PATH, Strata, Tally
from infra.vllm.usage import Meter

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"


class Clock:
    """Seconds that pass where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("infra.vllm.strata.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


Piece = tuple[float, bytes]


class Server:
    """vLLM's part of it: an answer's pieces, each so many seconds after the last one."""

    def __init__(self, clock: Clock, folder: Path) -> None:
        self.clock, self.status, self.pieces, self.dies = clock, 200, list[Piece](), False
        self.meter = Meter(self.app, {"folder": str(folder), "slot": "blue", "release": "a@sha256:1"})

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        if self.dies:
            raise RuntimeError("the engine is dead")
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", kind)]})
        for number, (seconds, piece) in enumerate(self.pieces, 1):
            self.clock.now += seconds
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(self.pieces)})

    def ask(self, body: dict[str, Any], path: str = CHAT, key: str = "team") -> None:
        asyncio.run(self.call(path, json.dumps(body).encode(), key))

    async def call(self, path: str, body: bytes, key: str = "") -> bytes:
        got = b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal got
            got += message.get("body", b"")

        headers = [(b"x-tunegate-key", key.encode())] if key else []
        await self.meter({"type": "http", "path": path, "method": "POST", "headers": headers}, receive, send)
        return got

    @property
    def strata(self) -> dict[str, Strata]:
        found: dict[str, Strata] = json.loads(asyncio.run(self.call(PATH, b"")))
        return found

    def facts(self, slot: str = "blue") -> dict[str, float]:
        (row,) = self.strata[slot].values()
        return {name: value for name, value in zip(COLUMNS, row, strict=True) if value}


@pytest.fixture
def server(clock: Clock, tmp_path: Path) -> Server:
    return Server(clock, tmp_path)


def usage(tokens: int, finish: str | None = None) -> bytes:
    choice = {"index": 0, "finish_reason": finish}
    event = {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
    return json.dumps(event, separators=(",", ":")).encode()


def test_a_stream_has_a_time_to_its_first_token_and_one_a_token(server: Server) -> None:
    server.pieces = [(0.3, b"data: " + usage(1)), (0.1, usage(2)), (0.1, usage(3, "length")), (0.0, b"")]
    server.ask({"messages": [], "stream": True, "max_tokens": 3})
    found = server.facts()
    assert found.pop("body_bytes") == len(json.dumps({"messages": [], "stream": True, "max_tokens": 3}))
    assert found == pytest.approx(
        {"requests": 1, "in_flight": 1, "in_second": 1, "in_minute": 1, "truncated": 1, "first_n": 1, "first": 0.3}
        | {"first_squares": 0.09, "gap_n": 1, "gap": 0.1, "gap_squares": 0.01}
        | {"tokens_n": 1, "tokens": 3, "tokens_squares": 9}
    )
    assert list(server.strata["blue"]) == ["0 0 0 1"]


def test_a_whole_answer_takes_so_long_a_token_and_has_no_first_one(server: Server) -> None:
    server.pieces = [(0.8, usage(4, "stop"))]
    server.ask({"messages": [{"content": 'say "max_tokens": 4'}]})
    found = server.facts()
    assert (found["gap"], found["tokens"]) == (pytest.approx(0.2), 4) and not {"first_n", "truncated"} & found.keys()
    assert list(server.strata["blue"]) == [f"0 0 {len(strata.MAX_TOKENS)} 0"], "what a prompt quotes is no bound"


def test_a_label_takes_so_long_as_its_answer(server: Server) -> None:
    server.pieces = [(0.2, b'{"data":[],"usage":{"prompt_tokens":4}}')]
    server.ask({"input": "x"}, "/classify")
    assert server.facts()["first"] == pytest.approx(0.2) and "tokens_n" not in server.facts()


@pytest.mark.parametrize("dies", [True, False])
def test_an_error_is_one_and_has_no_times(server: Server, dies: bool) -> None:
    """And it is of the stream that was asked for, though it is none itself."""
    server.status, server.dies, server.pieces = 500, dies, [(0.2, b"{}")]
    with suppress(RuntimeError):
        server.ask({"stream": True})
    found = server.facts()
    assert (found["requests"], found["failed"]) == (1, 1) and not {"first_n", "gap_n", "tokens_n"} & found.keys()
    assert list(server.strata["blue"]) == [f"0 0 {len(strata.MAX_TOKENS)} 1"] and found["body_bytes"] == 16


def test_what_the_client_did_wrong_is_no_failure(server: Server) -> None:
    server.status, server.pieces = 400, [(0.2, b"{}")]
    server.ask({})
    assert "failed" not in server.facts()


def test_probes_and_load_tests_are_nobodys(server: Server) -> None:
    server.pieces = [(0.1, usage(1))]
    server.ask({}, key="")
    assert server.strata == {}


def test_two_adapters_in_one_server_are_two_slots(server: Server) -> None:
    server.pieces = [(0.1, usage(1))]
    server.ask({}, f"/slots/green/a@0123{CHAT}")
    assert list(server.strata) == ["green"]


def test_arrivals_and_requests_in_flight_are_counted_as_they_come(clock: Clock) -> None:
    tally = Tally()
    first = tally.begin()
    clock.now += 0.5
    second = tally.begin()
    clock.now += 50
    third = tally.begin()
    assert [(one.in_flight, one.in_second, one.in_minute) for one in (first, second, third)] == [
        (1, 1, 1),
        (2, 2, 2),
        (3, 1, 3),
    ]
    tally.end("blue", first, 200, ended=True, tokens=1)
    clock.now += 30
    last = tally.begin()
    assert (last.in_flight, last.in_second, last.in_minute) == (3, 1, 2)


def test_who_left_before_there_was_an_answer_says_nothing_of_the_server(clock: Clock) -> None:
    tally = Tally()
    tally.end("blue", tally.begin(), 0, ended=False, tokens=0)
    assert (tally.strata, tally.in_flight) == ({}, 0)


def test_a_long_answer_is_counted_when_it_begins(server: Server, clock: Clock) -> None:
    """It may outlast the watch."""
    seen = list[dict[str, float]]()
    tally = server.meter.tally

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        kind = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        clock.now += 0.3
        await send({"type": "http.response.body", "body": usage(1), "more_body": True})
        (row,) = tally.strata["blue"].values()
        seen.append(dict(zip(COLUMNS, row, strict=True)))
        await send({"type": "http.response.body", "body": usage(9), "more_body": False})

    server.meter.app = app
    server.ask({"stream": True})
    assert (seen[0]["requests"], seen[0]["first"], seen[0]["tokens_n"]) == (1, pytest.approx(0.3), 0)
    assert (server.facts()["requests"], server.facts()["first_n"], server.facts()["tokens"]) == (1, 1, 9)


def test_a_stream_that_its_client_left_has_a_first_token_and_no_length(server: Server) -> None:
    server.pieces = [(0.3, usage(1)), (0.1, usage(2))]
    leave = server.pieces.copy()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        kind = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        for seconds, piece in leave:
            server.clock.now += seconds
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        raise asyncio.CancelledError

    server.meter.app = app
    with pytest.raises(asyncio.CancelledError):
        server.ask({"stream": True})
    found = server.facts()
    assert found["first"] == pytest.approx(0.3) and not {"failed", "gap_n", "tokens_n"} & found.keys()


@pytest.mark.parametrize(("status", "text"), [(404, "{}"), (200, "<html>"), (200, "[]")])
def test_a_server_that_does_not_say_is_not_judged(monkeypatch: pytest.MonkeyPatch, status: int, text: str) -> None:
    replies = {"a": httpx.Response(200, json={"blue": {"0 0 0 1": [1.0] * len(COLUMNS)}})}
    monkeypatch.setattr(httpx, "get", lambda url, **_: replies.get(url[0], httpx.Response(status, text=text)))
    assert read_strata("blue", "a", "a") == {"0 0 0 1": [2.0] * len(COLUMNS)} and read_strata("green", "a") == {}
    assert read_strata("blue", "a", "b") is None
