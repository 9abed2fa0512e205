"""What became of each stream, by the real OpenAI client against a small server that speaks its protocol, well or badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serve.streams import STREAM_TOKENS, Streams

pytestmark = pytest.mark.unit
DIGESTS = ["sha256:aa", "sha256:bb"]
# What the server does, and what the client must call it.
BECOMES = {
    "whole": "completed",
    "without-end-mark": "completed",
    "ends-early": "cut",
    "ends-early-with-end-mark": "cut",
    "socket-dies": "cut",
    "error-event": "cut",
    "nothing-said": "cut",
    "refused": "failed",
    "unauthorized": "failed",
    "no-answer": "failed",
}


class Speaker(BaseHTTPRequestHandler):
    """The model's name says how the answer goes; a digest after `@` becomes the release header."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body | {"key": self.headers["authorization"]})
        manner, _, digest = body["model"].partition("@")
        if manner == "no-answer":
            self.close_connection = True
            return
        if manner in ("refused", "unauthorized"):
            self.send_response(503 if manner == "refused" else 401)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        if digest:
            self.send_header("x-tunegate-release", digest)
            self.send_header("x-tunegate-slot", "blue")
        self.end_headers()
        self.speak(manner)

    def speak(self, manner: str) -> None:
        if manner != "nothing-said":
            self.say("find")
        if manner == "held":
            self.server.held.append(manner)
            self.server.let_go.wait(30)
        if manner == "socket-dies":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if manner == "error-event":
            self.send_event(json.dumps({"error": {"message": "engine died", "code": 500}}))
        if manner in ("whole", "held", "without-end-mark"):
            self.say("_train", "length")
        if manner in ("whole", "held", "ends-early-with-end-mark"):
            self.send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def say(self, text: str, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
        self.send_event(json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}))

    def send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Speaker)
        self.asked: list[dict[str, Any]] = []
        self.let_go = threading.Event()
        self.held: list[str] = []

    def client(self, model: str, count: int = 1) -> Streams:
        return Streams(f"http://127.0.0.1:{self.server_port}/v1", model, "sesame", count)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def counts(of: Streams, *manners: str) -> dict[str, int]:
    """One stream for each, and what the ledger says of them all."""
    client = of.client()
    for of.model in manners:
        of.stream(client, 4)
    return of.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("manner", "outcome"), BECOMES.items())
def test_a_stream_is_called_what_it_became_however_politely_it_ended(server: Server, manner: str, outcome: str) -> None:
    found = counts(server.client(""), manner)
    assert (found["streams_completed"], found["streams_cut"], found["requests_failed"]) == tuple(outcome == one for one in ("completed", "cut", "failed"))


@settings(max_examples=12)
@given(st.lists(st.sampled_from(sorted(set(BECOMES) - {"refused", "unauthorized", "no-answer"})) | st.just("refused"), max_size=4))
def test_every_stream_is_counted_once(server: Server, manners: list[str]) -> None:
    found, expected = counts(server.client(""), *manners), Counter(BECOMES[manner] for manner in manners)
    assert (found["streams_completed"], found["streams_cut"], found["requests_failed"]) == (expected["completed"], expected["cut"], expected["failed"])


def test_nobody_listening_is_a_failed_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found = counts(Streams(f"http://127.0.0.1:{port}/v1", "", "sesame", 1), "whole")
    assert (found["requests_failed"], found["streams_cut"]) == (1, 0)


def test_a_failed_request_is_not_tried_again_and_carries_the_key(server: Server) -> None:
    server.asked.clear()
    counts(server.client(""), "refused")
    (asked,) = server.asked
    assert (asked["key"], asked["stream"], asked["max_tokens"], asked["ignore_eos"]) == ("Bearer sesame", True, 4, True)


def test_the_releases_seen_are_the_digests_in_the_headers_each_counted_once(server: Server) -> None:
    manners = [f"whole@{DIGESTS[0]}", f"ends-early@{DIGESTS[1]}", f"whole@{DIGESTS[0]}", "whole", "refused"]
    assert counts(server.client(""), *manners)["releases_seen"] == 2


def test_as_many_streams_as_asked_are_open_at_once_and_close_waits_for_every_one(server: Server) -> None:
    held, ledger = server.client("held", count=3), dict[str, int]()
    server.let_go.clear()
    held.open()
    wait_until(lambda: len(server.held) == 3)
    closing = threading.Thread(target=lambda: ledger.update(held.close()))
    closing.start()
    closing.join(0.5)
    assert closing.is_alive() and len(server.held) == 3
    server.let_go.set()
    closing.join(30)
    assert (ledger["streams_completed"], ledger["streams_cut"], ledger["requests_failed"]) == (3, 0, 0)


def test_a_stream_that_ended_is_followed_by_another_until_the_end(server: Server) -> None:
    server.asked.clear()
    going = server.client(f"whole@{DIGESTS[0]}", count=2)
    going.open()
    wait_until(lambda: len(server.asked) > 6)
    found = going.close()
    assert found["streams_completed"] == len(server.asked) and found["releases_seen"] == 1
    assert {asked["max_tokens"] for asked in server.asked} == {STREAM_TOKENS}


def test_an_answer_comes_with_the_release_and_slot_that_gave_it(server: Server) -> None:
    assert server.client(f"whole@{DIGESTS[0]}").ask() == {"release": DIGESTS[0], "slot": "blue", "answer": "find_train"}
