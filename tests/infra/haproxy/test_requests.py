"""What the router adds and takes away on the way to a model server and back, in its errors and in its log."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from configs.environment.config import DeployConfig
from infra.haproxy.api_keys import KeyLimits, Keyring
from infra.haproxy.config import render
from tests.infra.conftest import SECRET, RunningProxy
from tests.serve.conftest import free_ports

FORGED = {
    "x-tunegate-slot": "green",
    "x-tunegate-key": "root",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil",
    "forwarded": "for=10.0.0.1",
    "x-real-ip": "10.0.0.1",
    "cookie": "a=b",
    "x-data-parallel-rank": "3",
    "x_request_id": "forged",
    "te": "trailers",
    "x-http-method-override": "DELETE",
}


def log_of(proxy: RunningProxy, count: int = 1) -> list[dict[str, Any]]:
    """Waits for `count` lines: they are written when a request has ended."""
    path, deadline = proxy.router.folder / "access.jsonl", time.monotonic() + 10
    while len(lines := path.read_text(encoding="utf8").splitlines()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return [json.loads(line) for line in lines]


@pytest.mark.integration
def test_only_named_headers_reach_the_model_server_and_never_the_key(proxy: RunningProxy) -> None:
    proxy.ask(path="/classify?adapter=evil", json={}, headers=FORGED | {"traceparent": "00-1-2-01"})
    (arrival,) = proxy.arrivals
    assert arrival.path == "/classify"
    assert set(arrival.headers) == {
        *(
            "host",
            "accept",
            "accept-encoding",
            "content-type",
            "content-length",
            "user-agent",
            "traceparent",
            "x-request-id",
            "x-tunegate-key",
        )
    }
    assert arrival.headers["x-tunegate-key"] == "default" and SECRET not in str(arrival.headers)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sent", "kept"), [("trace-1.a_B", True), ("x" * 129, False), ('in"jected', False), ("", False)]
)
def test_a_request_id_is_kept_or_made_and_is_the_same_everywhere(proxy: RunningProxy, sent: str, kept: bool) -> None:
    reply = proxy.ask(json={}, headers={"x-request-id": sent})
    name = reply.headers["x-request-id"]
    assert (name == sent) == kept and len(name) > 8
    assert proxy.arrivals[0].headers["x-request-id"] == name == log_of(proxy)[-1]["request_id"]


@pytest.mark.integration
def test_models_are_asked_of_the_server_and_shown_with_their_release(proxy: RunningProxy) -> None:
    proxy.router.set_release("blue", "sha256:aa")
    reply = proxy.ask("GET", "/v1/models")
    (model,) = reply.json()["data"]
    assert (model["id"], model["owned_by"], model["tunegate"]) == (
        "assistant",
        "tunegate",
        {"release": "sha256:aa", "slot": "blue"},
    )
    assert reply.headers["x-tunegate-release"] == "sha256:aa" and [arrival.path for arrival in proxy.arrivals] == [
        "/v1/models"
    ]
    traffic = proxy.router.traffic()["blue"]
    assert (traffic.total, traffic.failed, traffic.cut_by_server) == (1, 0, 0)


@pytest.mark.integration
def test_a_load_balancer_hears_200_only_while_a_slot_serves(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy()
    assert proxy.ask("GET", "/health", key=None).status_code == 200
    (nobody,) = free_ports(1)
    config = proxy.router.config.model_copy(update={"slot_ports": (nobody, proxy.router.config.slot_ports[1])})
    proxy.router.stop(0)
    type(proxy.router)(config).start(SECRET)
    reply = proxy.ask("GET", "/health", key=None)
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1
    assert proxy.ask("GET", "/v1/models").status_code == 503
    proxy.router.switch("green")
    assert proxy.ask("GET", "/health", key=None).status_code == 200


@pytest.mark.integration
@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_the_model_servers_own_errors_pass_as_they_are(proxy: RunningProxy, status: int) -> None:
    reply = proxy.ask(json={"status": status})
    assert (reply.status_code, reply.text, reply.headers["x-tunegate-slot"]) == (status, "{}", "blue")


@pytest.mark.integration
def test_a_silent_model_server_is_504(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(answer_seconds=1)
    reply = proxy.ask(json={"hold": 3})
    assert reply.status_code == 504 and reply.json()["error"]["type"] == "timeout_error"


@pytest.mark.integration
def test_slow_headers_hold_up_nobody_and_end(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(receive_seconds=1, max_connections=64)
    slow = [socket.create_connection(("127.0.0.1", proxy.router.config.router.port), timeout=10) for _ in range(40)]
    for one in slow:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-A")
    assert proxy.ask(json={}).status_code == 200
    answers = [one.recv(4096) for one in slow]
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers) and len(proxy.arrivals) == 1


@pytest.mark.integration
def test_a_slow_body_never_reaches_a_model_server(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(receive_seconds=1)
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {SECRET}",
        "Content-Length: 100000",
    )
    head = ("\r\n".join(lines) + "\r\n\r\n{").encode()
    answer = proxy.raw(head + b" " * 50_000, seconds=10)
    assert answer.startswith(b"HTTP/1.1 408") and json.loads(answer.rpartition(b"\r\n")[2])["error"]["code"] == 408
    assert proxy.arrivals == []


@pytest.mark.integration
def test_the_largest_body_passes_whole_and_one_byte_more_is_413(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(max_body_kib=300)
    assert proxy.ask(content=b"x" * 300 * 1024).status_code == 200
    assert len(proxy.arrivals[0].body) == 300 * 1024
    reply = proxy.ask(content=b"x" * (300 * 1024 + 1))
    assert reply.status_code == 413 and reply.json()["error"]["message"] == "the body is larger than 300 KiB"


@pytest.mark.integration
def test_a_client_that_waits_for_100_continue_gets_it(proxy: RunningProxy) -> None:
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 2\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", proxy.router.config.router.port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(b"{}")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert "expect" not in proxy.arrivals[0].headers


@pytest.mark.integration
def test_named_origins_may_call_from_a_browser_and_others_may_not(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(cors_origins=["https://app.example.com"])
    ours, theirs = {"origin": "https://app.example.com"}, {"origin": "https://app.example.com.evil"}
    asked = proxy.ask("OPTIONS", key=None, headers=ours)
    assert asked.status_code == 204 and "authorization" in asked.headers["access-control-allow-headers"]
    assert asked.headers["access-control-allow-origin"] == ours["origin"] and proxy.arrivals == []
    for key, status in ((SECRET, 200), (None, 401)):
        reply = proxy.ask(json={}, key=key, headers=ours)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, ours["origin"])
    assert proxy.ask("OPTIONS", key=None, headers=theirs).status_code == 405
    assert "access-control-allow-origin" not in proxy.ask(json={}, headers=theirs).headers


@pytest.mark.integration
def test_the_log_has_a_line_a_request_and_no_prompt_no_key_no_query(proxy: RunningProxy) -> None:
    proxy.router.set_release("blue", "sha256:aa")
    secret = Keyring(proxy.router.config).add("search", KeyLimits.model_validate({}))
    proxy.ask(
        key=secret,
        path="/v1/chat/completions?q=in-the-query",
        json={"messages": "in-the-prompt"},
        headers={"user-agent": "in-a-header"},
    )
    proxy.ask(key="in-a-wrong-key", json={})
    proxy.ask("GET", '/nowhere/"quoted"')
    proxy.ask("GET", "/health")
    proxy.raw(b"NONSENSE\r\n\r\n", 1)
    lines = log_of(proxy, 4)
    text = (proxy.router.folder / "access.jsonl").read_text(encoding="utf8")
    assert not [
        word
        for word in (secret, SECRET, "in-the-query", "in-the-prompt", "in-a-header", "in-a-wrong-key")
        if word in text
    ]
    seen = [(line["key"], line["status"], line["slot"], line["release"]) for line in lines]
    assert seen == [
        ("search", 200, "blue", "sha256:aa"),
        ("-", 401, "-", "-"),
        ("-", 404, "-", "-"),
        ("-", 400, "-", "-"),
    ]
    assert lines[0]["path"] == "/v1/chat/completions" and lines[0]["method"] == "POST" and lines[0]["bytes_in"] > 0
    assert (
        lines[0]["total_ms"] >= lines[0]["first_byte_ms"] >= 0 and abs(lines[0]["epoch_ms"] / 1000 - time.time()) < 60
    )


@pytest.mark.integration
def test_the_log_says_how_long_a_request_was_held(start_proxy: Callable[..., RunningProxy]) -> None:
    proxy = start_proxy(queue_seconds=1)
    proxy.router.pause()
    proxy.ask(json={})
    assert log_of(proxy)[0]["held_ms"] >= 1000


@pytest.mark.integration
def test_the_log_says_who_ended_a_stream(proxy: RunningProxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.router.config.router.port), timeout=5) as connection:
        body = b'{"chunks": 40}'
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET}\r\n".encode()
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert connection.recv(4096)
    assert log_of(proxy)[0]["termination"].startswith("C")


@pytest.mark.integration
def test_the_log_may_be_cut_while_the_router_writes_it(proxy: RunningProxy) -> None:
    """As logrotate's copytruncate does."""
    proxy.ask(json={})
    log_of(proxy)
    with (proxy.router.folder / "access.jsonl").open("r+") as stream:
        stream.truncate(0)
    proxy.ask("GET", "/v1/models")
    assert [line["method"] for line in log_of(proxy)] == ["GET"]


@pytest.mark.parametrize("name", ["it's", "100%", 'a "quoted" one', "%[env(HOME)]", "$HOME", "ünï", "x' hdr evil 1 '"])
@pytest.mark.integration
def test_a_model_of_any_name_is_shown_by_it(start_proxy: Callable[..., RunningProxy], name: str) -> None:
    proxy = start_proxy(model=name)
    assert proxy.ask("GET", "/v1/models").json()["data"][0]["id"] == name


@pytest.mark.unit
def test_no_setting_and_no_key_is_in_the_configuration_twice_or_at_all() -> None:
    text = render(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None}))
    assert SECRET not in text and text.count("${") == 6 and text.count("bind ") == 1 and "mode 600" in text
    assert [line for line in text.splitlines() if "    server " in line] == [
        '    server blue 127.0.0.1:"${BLUE_PORT}"',
        '    server green 127.0.0.1:"${GREEN_PORT}" backup "${GREEN_STANDBY}"',
        '    server green 127.0.0.1:"${GREEN_PORT}"',
        '    server blue 127.0.0.1:"${BLUE_PORT}" backup "${BLUE_STANDBY}"',
    ]
