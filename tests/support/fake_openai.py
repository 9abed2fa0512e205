"""A small OpenAI server with the manners of a slot: it streams, fails, stalls and counts as it is told. In a thread; no
model behind it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.vllm.strata import PATH, Asked, Tally

# vLLM's own edges
FIRSTS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
GAPS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
LENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


@dataclass
class Fake:
    """`answer` makes the words of an answer from the request's body; `fails` says which requests (by number, from 0)
    get a 500. Of users' requests it sums up what our middleware would, of its `slot`."""

    answer: Callable[[dict[str, Any]], list[str]] = lambda body: ["one", " two", " three"]
    fails: Callable[[int], bool] = lambda number: False
    first_seconds: float = 0.0
    gap_seconds: float = 0.0
    cut: bool = False
    finish: str = "stop"
    port: int = 0
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    slot: str = ""
    tally: Tally = field(default_factory=Tally)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metrics(self) -> str:
        """As vLLM's /metrics names them."""
        length = [float(one) for one in self.lengths]
        text = histogram("vllm:time_to_first_token_seconds", self.firsts, FIRSTS) + histogram(
            "vllm:request_time_per_output_token_seconds", self.gaps, GAPS
        )
        labels = f'{{engine="0",finished_reason="{self.finish}",model_name="m"}}'
        finished = f"vllm:request_success_total{labels} {len(self.lengths)}.0\n"
        return (
            text
            + histogram("vllm:request_generation_tokens", length, LENGTHS)
            + "# TYPE vllm:request_success counter\n"
            + finished
        )


def histogram(name: str, values: list[float], edges: tuple[float, ...]) -> str:
    rows = [
        f'{name}_bucket{{engine="0",le="{edge}",model_name="m"}} {sum(one <= edge for one in values)}.0'
        for edge in edges
    ]
    rows += [
        f'{name}_bucket{{engine="0",le="+Inf",model_name="m"}} {len(values)}.0',
        f'{name}_count{{engine="0",model_name="m"}} {len(values)}.0',
    ]
    return (
        f"# HELP {name} of a fake\n# TYPE {name} histogram\n"
        + "\n".join([*rows, f'{name}_sum{{engine="0",model_name="m"}} {sum(values)}'])
        + "\n"
    )


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        asked: Asked
        disable_nagle_algorithm = (
            True  # else the first chunk waits 40 ms for the client's acknowledgement of the headers
        )

        def do_GET(self) -> None:
            if self.path == PATH:
                with fake.lock:
                    return self.reply(200, json.dumps(fake.tally.strata).encode())
            text = fake.metrics() if self.path == "/metrics" else "{}"
            self.reply(200, text.encode(), "text/plain")

        def do_POST(self) -> None:
            arrived, content = time.perf_counter(), self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(content)
            with fake.lock:
                number = len(fake.bodies)
                fake.bodies.append((self.path, body))
                fake.arrivals.append(arrived)
                self.asked, self.tokens = fake.tally.begin(self.path != "/classify"), 0
            self.asked.read(content)
            fails = fake.fails(number)
            try:
                if fails:
                    self.reply(500, b'{"error": {"message": "planted"}}')
                elif self.path == "/classify":
                    self.reply(200, json.dumps({"data": [{"probs": [0.25, 0.75]}]}).encode())
                else:
                    (self.stream if body.get("stream") else self.whole)(body)
            finally:
                self.count(500 if fails else 200)

        def note(self, piece: bytes, status: int = 200) -> None:
            """Users' requests bear their key's name; probes do not."""
            if self.headers["x-tunegate-key"]:
                with fake.lock:
                    fake.tally.answer(fake.slot, self.asked, status, piece)

        def count(self, status: int) -> None:
            asked, status = self.asked, status if self.headers["x-tunegate-key"] else 0
            asked.truncated = fake.finish == "length"
            with fake.lock:
                fake.tally.end(fake.slot, asked, status, ended=not fake.cut, tokens=self.tokens)

        def whole(self, body: dict[str, Any]) -> None:
            time.sleep(fake.first_seconds)
            words = fake.answer(body)
            self.tokens = len(words)
            fake.lengths.append(len(words))
            choice = {
                "index": 0,
                "finish_reason": fake.finish,
                "message": {"role": "assistant", "content": "".join(words)},
                "text": "".join(words),
            }
            self.reply(
                200,
                json.dumps(
                    {"choices": [choice], "usage": {"completion_tokens": len(words), "prompt_tokens": 1}}
                ).encode(),
            )

        def stream(self, body: dict[str, Any]) -> None:
            words = fake.answer(body)
            self.tokens = len(words)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            time.sleep(fake.first_seconds)
            fake.firsts.append(fake.first_seconds)
            for place, word in enumerate(words):
                time.sleep(fake.gap_seconds if place else 0)
                self.event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if fake.cut:
                self.close_connection = True
                return
            fake.lengths.append(len(words))
            fake.gaps += [fake.gap_seconds] if len(words) > 1 else []
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": fake.finish}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                self.event({"choices": [], "usage": {"completion_tokens": len(words), "prompt_tokens": 1}})
            self.chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def event(self, value: dict[str, Any]) -> None:
            self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

        def chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
            self.note(data)

        def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            if self.command == "POST":
                self.note(body, status)

        def log_message(self, format: str, *facts: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", fake.port), Handler)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
