"""The router pod's own HTTP server, for the kubelet and the agent: JSON, a bearer token for all but the probes."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from configs.errors import ExternalError, TunegateError
from infra.boot import Moment
from infra.haproxy.lost import LostRequests
from infra.router_pods.counts import RouterCounts
from infra.router_pods.maps import Maps

ADMIN_PORT = 8405
MOST_BYTES = 8 << 20  # of a body: ten thousand keys are some 2 MiB
MAPS: TypeAdapter[Maps] = TypeAdapter(Maps)
Answer = tuple[int, Any]


class Told(Protocol):
    """A router pod, as this server asks it. Each may raise ExternalError."""

    def is_ready(self) -> bool: ...
    def maps(self) -> Maps: ...
    def be_told(self, maps: Maps, *, by_agent: bool = False) -> None: ...
    def counts(self) -> RouterCounts: ...
    def lost(self, since: Moment, until: Moment) -> LostRequests: ...


def answer(pod: Told, method: str, path: str, body: bytes) -> Answer:
    """Status and JSON. Raises TunegateError."""
    match method, path:
        case "GET", "/maps":
            return 200, pod.maps()
        case "GET", "/counts":
            return 200, pod.counts()
        case "POST", "/maps":
            try:
                maps = MAPS.validate_json(body)
            except ValidationError as error:
                return 400, {"error": f"expected maps by name: {error.errors()[0]['msg']}"}
            pod.be_told(maps, by_agent=True)
            return 200, pod.maps()
        case "POST", "/lost":
            since, until = (Moment(*moment) for moment in json.loads(body))
            return 200, pod.lost(since, until)
    return 404, {"error": "GET /live, /ready, /maps, /counts; POST /maps, /lost"}


def probe(pod: Told, path: str) -> int | None:
    """None where it is no probe's path."""
    if path == "/live":
        return 200
    if path == "/ready":
        return 200 if pod.is_ready() else 503
    return None


def handler_of(pod: Told, token: str) -> type[BaseHTTPRequestHandler]:
    expected = f"Bearer {token}".encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 60  # seconds, of a connection on which nothing is said

        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def reply(self) -> None:
            status = probe(pod, self.path) if self.command == "GET" else None
            if status is not None:
                self.send(status, {})
            elif not hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected):
                self.close_connection = True
                self.send(401, {"error": "wrong or missing token"})
            else:
                self.send(*self.answered())

        def answered(self) -> Answer:
            length = self.headers.get("Content-Length") or "0"
            if not length.isdigit() or int(length) > MOST_BYTES:
                self.close_connection = True
                return 413, {"error": f"a body of at most {MOST_BYTES} bytes, its length stated"}
            body = self.rfile.read(int(length))
            try:
                return answer(pod, self.command, self.path, body)
            except TunegateError as error:
                return 503, {"error": error.message}
            except (ValueError, TypeError) as error:
                return 400, {"error": f"{type(error).__name__}: {error}"}

        def send(self, status: int, found: Any) -> None:
            text = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Silence: it is asked several times a second."""

    return Handler


@contextmanager
def open_admin(pod: Told, address: str, token: str) -> Iterator[None]:
    """Raises ExternalError where the port is taken."""

    class Server(ThreadingHTTPServer):
        address_family = AF_INET6 if ":" in address else AF_INET
        daemon_threads = True
        request_queue_size = 128

    try:
        server = Server((address, ADMIN_PORT), handler_of(pod, token))
    except OSError as error:
        raise ExternalError(
            f"{address}:{ADMIN_PORT}: {error.strerror or error}", hint=f"ss -ltnp 'sport = :{ADMIN_PORT}'"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="admin")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
