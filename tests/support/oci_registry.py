"""A registry of a few lines, to inject what a real one seldom does: torn and false bytes, faults, tokens. The real one
is asked in benchmarks/cluster/registry.py."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from infra.transfer.layout import sha256_digest


@dataclass
class Registry:
    """`blobs` and `manifests` by digest or tag; `faults`: how often a path with this in it fails yet, and with what:
    "torn", "false" or a status; `wants_token`: of its own token server, for USER and SECRET."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)
    wants_token: bool = False
    asked: list[str] = field(default_factory=list)

    def fault(self, path: str) -> str:
        for part, (left, kind) in self.faults.items():
            if part in path and left:
                self.faults[part] = left - 1, kind
                return kind
        return ""


@contextmanager
def registry() -> Iterator[Registry]:
    state = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def answer(self, code: int, content: bytes = b"", said: int | None = None, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content) if said is None else said))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def refused(self) -> bool:
            state.asked.append(f"{self.command} {self.path}")
            if state.wants_token and self.headers.get("Authorization") != "Bearer good":
                realm = f'Bearer realm="http://{state.address}/token",service="here"'
                self.answer(401, WWW_Authenticate=realm)
                return True
            return False

        def do_GET(self) -> None:
            if self.path.startswith("/token"):
                known = self.headers.get("Authorization") == "Basic VVNFUjpTRUNSRVQ="
                self.answer(200 if known else 401, b'{"token": "good"}' if known else b"{}")
                return
            if self.refused():
                return
            kind, name = self.path.rsplit("/", 2)[-2:]
            content = {"blobs": state.blobs, "manifests": state.manifests}[kind].get(name)
            fault = state.fault(self.path)
            if fault.isdigit() or content is None:
                self.answer(int(fault or 404))
            elif fault == "torn":
                self.answer(200, content[: len(content) // 2], said=len(content))
                self.close_connection = True
            else:
                self.answer(200, content if not fault else bytes([content[0] ^ 1]) + content[1:])

        do_HEAD = do_GET

        def do_POST(self) -> None:
            if not self.refused():
                self.answer(202, Location="/upload/1?state=x")

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.refused():
                return
            digest = sha256_digest(content)
            if self.path.startswith("/upload"):
                assert parse_qs(urlsplit(self.path).query) == {"state": ["x"], "digest": [digest]}
                state.blobs[digest] = content
            else:
                tag = re.fullmatch(r"/v2/(.+)/manifests/([A-Za-z0-9_.-]{1,128})", self.path)
                assert tag
                state.manifests |= {digest: content, tag[2]: content}
            self.answer(201)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
