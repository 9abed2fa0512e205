"""A real HAProxy in front of two small servers that write down everything that reaches them."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from infra.haproxy.config import BACKLOG
from infra.haproxy.router import Router
from tests.serve.conftest import free_ports

SECRET = "sesame-open"


@dataclass
class Arrival:
    """One request as the model server saw it."""

    slot: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Recorder(BaseHTTPRequestHandler):
    """Answers as vLLM would. A body {"chunks": N} streams N chunks, 50 ms apart, {"until": FILE} until that file is
    there, and then says END; {"status": S} answers with S; {"hold": T} answers after T seconds."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer: else Nagle's algorithm and the delayed ACK cost 40 ms each

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server = self.server
        assert isinstance(server, Server)
        server.arrivals.append(
            Arrival(
                server.slot, self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body
            )
        )
        try:
            wishes = json.loads(body) if body else {}
        except ValueError:
            wishes = {}
        wishes = wishes if isinstance(wishes, dict) else {}
        time.sleep(wishes.get("hold", 0))
        self.send_response(wishes.get("status", 200))
        self.send_header("content-type", "application/json")
        if "chunks" in wishes:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number in range(wishes["chunks"]):
                self.wfile.write(b"2\r\n%d\n\r\n" % (number % 10))
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")
            return
        if "until" in wishes:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while not Path(wishes["until"]).exists():
                self.wfile.write(b"1\r\n.\r\n")
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b"3\r\nEND\r\n0\r\n\r\n")
            return
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_TRACE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    """Knows its slot; the router may hang up on it."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, slot: str, port: int, arrivals: list[Arrival]) -> None:
        super().__init__(("127.0.0.1", port), Recorder)
        self.slot, self.arrivals = slot, arrivals

    def handle_error(self, request: object, client_address: object) -> None:
        """Silence."""


@dataclass
class RunningProxy:
    """A running router with the key SECRET, all traffic on blue; `arrivals` is what came through it."""

    router: Router
    arrivals: list[Arrival] = field(default_factory=list)

    def ask(
        self, method: str = "POST", path: str = "/v1/chat/completions", key: str | None = SECRET, **options: Any
    ) -> httpx.Response:
        headers = ({"Authorization": f"Bearer {key}"} if key is not None else {}) | options.pop("headers", {})
        return httpx.request(method, self.router.base_url + path, headers=headers, timeout=30, **options)

    def raw(self, request: bytes, seconds: float = 5) -> bytes:
        """Bytes as they are, and whatever comes back until the router closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.router.config.router.port), timeout=seconds) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while part := connection.recv(65_536):
                    answer += part
            except OSError:
                pass
            return answer


class Stream:
    """A client that reads to the end, which comes when the test says so."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.id, self.end, self.last = "", Path(f"end-{uuid.uuid4()}").absolute(), ""
        self.begun = threading.Event()
        self.thread = threading.Thread(target=self.read, args=(proxy.router.base_url,))
        self.thread.start()
        assert self.begun.wait(20)

    def read(self, url: str) -> None:
        try:
            with (
                httpx.Client(headers={"Authorization": f"Bearer {SECRET}"}, timeout=60, verify=False) as client,
                client.stream("POST", f"{url}/v1/chat/completions", json={"until": str(self.end)}) as reply,
            ):
                self.id = reply.headers["x-request-id"]
                for part in reply.iter_text():
                    self.last = part or self.last
                    self.begun.set()
        except httpx.HTTPError:
            self.last = "lost"

    def ends_whole(self) -> bool:
        self.end.touch()
        self.thread.join()
        return self.last.endswith("END")

    def is_lost(self) -> bool:
        self.thread.join(30)
        return self.last == "lost"


@pytest.fixture
def start_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunningProxy]]:
    """start_router(key=value, …) opens one with those settings of `router:`, for a model of that name."""
    monkeypatch.chdir(tmp_path)
    routers: list[Router] = []
    servers: list[Server] = []

    def build(model: str = "assistant", **settings: Any) -> RunningProxy:
        ports = free_ports(3)
        config = {"name": "x", "model": model, "gate": None, "slot_ports": tuple(ports[1:]), "state_dir": "state"}
        found = RunningProxy(Router(DeployConfig.model_validate(config | {"router": {"port": ports[0]} | settings})))
        for slot, port in zip(("blue", "green"), ports[1:], strict=True):
            server = Server(slot, port, found.arrivals)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            servers.append(server)
        routers.append(found.router)
        found.router.start(SECRET)
        found.router.switch("blue")
        return found

    yield build
    for router in routers:
        router.stop(0)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def proxy(start_proxy: Callable[..., RunningProxy]) -> RunningProxy:
    return start_proxy()
