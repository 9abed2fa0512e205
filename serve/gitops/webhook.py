"""A push event that wakes the agent sooner than its next poll. It carries no request: what is taken is what the branch
says."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from configs.errors import ExternalError, InputError

VARIABLE = "TUNEGATE_WEBHOOK_TOKEN"
HINT = "a secret of 20 characters or more, the same in GitLab: Settings, Webhooks, Secret token"


def listen(port: int, wake: Callable[[], None]) -> ThreadingHTTPServer:
    """On 127.0.0.1: a proxy of yours lets GitLab in. Raises InputError without the secret, ExternalError where the port
    is taken."""
    token = os.environ.get(VARIABLE, "")
    if len(token) < 20:
        raise InputError(f"{VARIABLE} has {len(token)} characters", hint=HINT)

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds, for a client that sends nothing

        def do_POST(self) -> None:
            """The body is not even read."""
            known = hmac.compare_digest(self.headers.get("X-Gitlab-Token", "").encode(), token.encode())
            if known:
                wake()
            self.send_response(202 if known else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise ExternalError(f"--webhook {port}: {error.strerror or error}", hint="ss -ltnp") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
