"""What the API server says, and what it means: that something is not there, that somebody was first, that nothing is
known."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, InputError, UnreachableError
from infra.kubernetes.api import Cluster, ConflictError, client_of, selector
from tests.support.fake_cluster import FakeApi, api

__all__ = ["api"]
pytestmark = pytest.mark.unit
CLUSTER = Cluster("models")
SAID = {"status": 200, "body": b"{}", "more": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(SAID["status"])  # type: ignore[arg-type]
        self.send_header("Content-Length", str(len(SAID["body"]) + SAID["more"]))  # type: ignore[arg-type,operator]
        self.close_connection = bool(SAID["more"])
        self.end_headers()
        self.wfile.write(SAID["body"])  # type: ignore[arg-type]

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Any], None]]:
    """What the server answers from here on."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    fake = FakeApi()
    path = fake.kubeconfig(tmp_path)
    path.write_text(path.read_text().replace(str(fake.server.server_port), str(server.server_port)))
    fake.close()
    monkeypatch.setenv("KUBECONFIG", str(path))
    client_of.cache_clear()

    def said(status: int, body: Any) -> None:
        SAID.update(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())

    yield said
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ExternalError),
        (403, ExternalError),
        (409, ConflictError),
        (422, ExternalError),
        (429, UnreachableError),
        (500, ExternalError),
        (503, UnreachableError),
    ],
)
def test_a_refusal_says_what_was_asked_and_the_servers_own_words(
    say: Callable[[int, Any], None], status: int, kind: type[ExternalError]
) -> None:
    say(status, {"message": "because"})
    with pytest.raises(ExternalError, match=f"{status} because") as found:
        CLUSTER.apply({"kind": "Service", "metadata": {"name": "x"}})
    assert type(found.value) is kind and "/namespaces/models/services/x" in str(found.value)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"message": null}'])
def test_words_that_are_no_json_are_no_traceback(say: Callable[[int, Any], None], body: bytes) -> None:
    say(502, body)
    with pytest.raises(ExternalError, match="502"):
        CLUSTER.find("Pod", {})


def test_an_answer_that_breaks_off_in_the_middle_is_no_traceback(say: Callable[[int, Any], None]) -> None:
    say(200, b'{"items": [')
    SAID["more"] = 100
    try:
        with pytest.raises(UnreachableError, match="GET"):
            CLUSTER.find("Pod", {})
    finally:
        SAID["more"] = 0


def test_what_is_not_there_is_none_and_what_was_deleted_already_too(say: Callable[[int, Any], None]) -> None:
    say(404, {"message": "not found"})
    assert CLUSTER.read("Lease", "x") is None
    assert CLUSTER.patch("Pod", "x", {}) is None
    assert CLUSTER.delete("Service", "x") is False


def test_a_watch_whose_version_is_too_old_says_so_and_one_that_breaks_off_ends(
    say: Callable[[int, Any], None],
) -> None:
    event = {"type": "ADDED", "object": {"metadata": {"name": "p"}}}
    say(200, json.dumps(event).encode() + b'\n{"type": "MODI')
    assert [kind for kind, _ in CLUSTER.watch("Pod", {}, "1", 1)] == ["ADDED"]
    say(200, b'{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}\n')
    with pytest.raises(ExternalError, match="too old"):
        list(CLUSTER.watch("Pod", {}, "1", 1))


@pytest.mark.parametrize("mode", ["down", "hang"])
def test_nobody_who_answers_is_not_nothing_there(api: FakeApi, mode: str) -> None:
    api.mode = mode  # type: ignore[assignment]
    with pytest.raises(UnreachableError, match="API at http"):
        Cluster("models", read_seconds=0.3).read("Service", "x")
    api.mode = "up"


def test_without_a_way_to_a_cluster_it_is_said_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    client_of.cache_clear()
    with pytest.raises(InputError, match="found no way to it"):
        CLUSTER.read("Service", "x")
    client_of.cache_clear()


def test_a_selector_is_the_same_whatever_the_order() -> None:
    assert selector({"b": "2", "a": "1"}) == selector({"a": "1", "b": "2"}) == "a=1,b=2"
