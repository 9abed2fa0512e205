"""A model server that answers each path in the shape that the router's own document describes, and refuses a body that
does not fit it. In a thread; no model behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from configs.section import JsonObject

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
SAID = {"type": "output_text", "text": "Hi", "annotations": []}
ANSWERS: dict[str, JsonObject] = {
    "/v1/models": {"object": "list", "data": []},
    "/v1/chat/completions": {
        **{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    },
    "/v1/completions": {
        **{"id": "1", "object": "text_completion", "created": 1, "model": "m", "usage": USAGE},
        "choices": [{"index": 0, "finish_reason": "stop", "text": "Hi"}],
    },
    "/v1/responses": {
        **{"id": "1", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": False, "tools": []},
        **{"tool_choice": "auto", "status": "completed"},
        "output": [{"id": "1", "type": "message", "role": "assistant", "status": "completed", "content": [SAID]}],
    },
    "/v1/embeddings": {
        **{"object": "list", "model": "m", "usage": USAGE},
        "data": [{"index": 0, "object": "embedding", "embedding": [0.5, 0.25]}],
    },
    "/classify": {"object": "list", "data": [{"index": 0, "label": "1", "probs": [0.25, 0.75]}]},
    "/pooling": {"object": "list", "data": [{"index": 0, "data": [[0.1, 0.9]]}]},
}


@contextmanager
def model_server(port: int, document: JsonObject) -> Iterator[None]:
    from jsonschema import Draft202012Validator

    def refused(path: str, raw: bytes) -> str | None:
        try:
            body = json.loads(raw)
        except ValueError as error:
            return str(error)
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        found = Draft202012Validator(schema | {"components": document["components"]})
        return next((error.message for error in found.iter_errors(body)), None)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            self.answer(200, json.dumps(ANSWERS.get(self.path, {})))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            why = refused(self.path, raw)
            if why is not None:
                error = {"message": why, "type": "BadRequestError", "param": None, "code": 400}
                self.answer(400, json.dumps({"error": error}))
            elif json.loads(raw).get("stream"):
                self.answer(200, f"data: {json.dumps(ANSWERS[self.path])}\n\ndata: [DONE]\n\n", "text/event-stream")
            else:
                self.answer(200, json.dumps(ANSWERS[self.path]))

        def answer(self, status: int, text: str, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *facts: Any) -> None:
            """Silence."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: object, client_address: object) -> None:
            """Silence: HAProxy's look whether it listens ends in a reset."""

    server = Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
