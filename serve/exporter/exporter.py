"""The agent's own figures over HTTP, on 127.0.0.1 alone, in a pod on its address: GET /metrics for Prometheus, GET
/targets for its service discovery, GET /load for an autoscaler.

A thread answers, from what the loop noted last: whatever asks, the loop waits for nothing. The port dies with its
process, so nobody takes a dead agent's figures for a living one's.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from configs.errors import ExternalError
from infra.kubernetes.autoscaling import LOAD_PATH
from serve.exporter.figures import Seen, Turn, figures_of
from serve.exporter.targets import targets_of
from serve.exporter.usage_counters import UsageCounters, usage_figures
from serve.plan.action import Action, End
from serve.plan.situation import Situation
from serve.record.environment import Environment

if TYPE_CHECKING:
    from prometheus_client import Metric

RETRY_SECONDS = 5.0
POLL_SECONDS = 0.1  # so long it takes at the most to close
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Exporter:
    """Of one holder. `turn`: set by an agent after each."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.seen: Seen | None = None
        self.turn: Turn | None = None
        self.usage = UsageCounters(env.folder / "usage", env.folder / "usage.snapshot.json")
        self.server: ThreadingHTTPServer | None = None
        self.port: int | None = None
        self.refused: int | None = None
        self.due = 0.0

    def note(self, situation: Situation, step: Action | End) -> None:
        """Called at each look, and quick. Opens the port that the YAML names now."""
        now, before = time.monotonic(), self.seen
        since = before.since if before and name_of(before.step) == name_of(step) else now
        self.seen = Seen(situation, step, since, now)
        port = situation.config.supervision.metrics_port
        if port != self.port and now >= self.due:
            self.listen(port)

    def listen(self, port: int | None) -> None:
        """A port that is taken is said once, and tried again: what serves needs none of this."""
        self.close()
        if port is not None:
            try:
                self.server = open_server(port, self)
            except OSError as error:
                self.due = time.monotonic() + RETRY_SECONDS
                if port != self.refused:
                    why = f"supervision.metrics_port {port}: {error.strerror or error}"
                    self.env.report_progress(f"error: {why}; no figures for Prometheus   (ss -ltnp 'sport = :{port}')")
                self.refused = port
                return
        self.port, self.refused = port, None

    def close(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = self.port = None

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Type and body; None where there is no such path."""
        seen = self.seen
        assert seen  # the port was opened by a look
        if path == "/metrics":
            figures = [*figures_of(seen, self.turn), *usage_figures(self.usage.read())]
            return TEXT, as_text(figures)
        if path == "/targets":
            found = targets_of(seen.situation.config, seen.situation.state)
            return "application/json", json.dumps(found).encode()
        if path == LOAD_PATH:
            return "application/json", json.dumps(self.env.router.load()).encode()
        return None


def name_of(step: Action | End) -> tuple[object, ...]:
    """What makes it the same step as a moment ago."""
    return (step.kind, step.slot, *((step.server, step.proof) if isinstance(step, Action) else ()))


def open_server(port: int, exporter: Exporter) -> ThreadingHTTPServer:
    """Raises OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds, for a client that sends nothing

        def do_GET(self) -> None:
            status, kind, body = 404, TEXT, b"GET /metrics, /targets or /load\n"
            try:
                if found := exporter.answer(self.path.partition("?")[0]):
                    status, (kind, body) = 200, found
            except ExternalError as error:  # no router says what is open: nothing is known, which is not 0
                status, body = 503, f"{error}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    address = os.environ.get("TUNEGATE_POD_ADDRESS") or "127.0.0.1"

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    server = Server((address, port), Handler)
    threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True, name="exporter").start()
    return server


def as_text(figures: Iterable[Metric]) -> bytes:
    """Prometheus' text format, every value quoted."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterable[Metric]:
            return figures

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)
