"""A server on loopback that has what `infra/gitlab/api.py` uses of GitLab's API, and fails as planned.

After GitLab's published descriptions, https://docs.gitlab.com/api/: notes, commits (statuses, merge requests of a
commit), merge requests and their pipelines, pipelines (bridges), jobs, job artifacts, deployments, environments, users
(`GET /user`), rest (pagination by `Link`, bearer tokens, status codes), read as doc/api/*.md of gitlabhq/gitlabhq. What
those pages leave out is as others met it: a status that is pending or running refuses the same again with a 400, a
finished one gets a successor.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.gitlab_pipelines import Refused
from tests.support.gitlab_world import World


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def handle_any(self) -> None:
        world: World = self.server.world  # type: ignore[attr-defined]
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        facts = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or "{}")
        world.on_request(f"{self.command} {address.path}")
        with world.lock:
            world.requests.append(f"{self.command} {address.path}")
            failure = world.planned(self.command, address.path)
            status, body = (
                self.carry_out(world, address.path, query, facts) if failure is None or failure.taken else (0, None)
            )
        if failure is None:
            self.reply(status, body, query, address.path)
            return
        if failure.silent:
            time.sleep(1)
        self.send(failure.status, failure.body.encode(), failure.headers)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def carry_out(self, world: World, path: str, query: dict[str, str], facts: dict[str, Any]) -> tuple[int, Any]:
        if self.headers.get("Authorization") != f"Bearer {world.token}":
            return 401, {"message": "401 Unauthorized"}
        try:
            body = world.answer(self.command, path, query, facts)
        except Refused as error:
            return error.status, {"message": error.message}
        return {"POST": 201, "DELETE": 204}.get(self.command, 200), body

    def reply(self, status: int, body: Any, query: dict[str, str], path: str) -> None:
        headers = {"Content-Type": "application/json"}
        if isinstance(body, list):
            page, size = int(query.get("page", 1)), int(query.get("per_page", 20))
            headers |= {"X-Total": str(len(body)), "X-Per-Page": str(size), "X-Page": str(page)}
            if len(body) > page * size:
                rest = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
                headers["Link"] = f'<{self.server.world.url}{path}?{rest}&page={page + 1}>; rel="next"'  # type: ignore[attr-defined]
            body = body[(page - 1) * size : page * size]
        raw = body if isinstance(body, bytes) else b"" if status == 204 else json.dumps(body).encode()
        self.send(status, raw, headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json"} | headers | {"Content-Length": str(len(body))}
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    world: World

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is the point of some tests."""


@contextmanager
def gitlab_server() -> Iterator[World]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.world = World(url=f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.world
        server.shutdown()
