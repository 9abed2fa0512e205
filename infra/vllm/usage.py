"""ASGI middleware inside vLLM: what each key really used, a line a request, for whoever bills or budgets it.

The server runs with `--enable-force-include-usage`, which puts the usage so far into every chunk of a stream: so that
one which its client left is known as well. What the client did not ask for (`stream_options`) is taken out again, event
by event; nothing waits for anything. Lines are written by a thread. Beside them it sums up how users were answered
(infra.vllm.strata), for the watch under traffic to read. Loaded by vLLM's `--middleware infra.vllm.usage.Meter`, so it
needs nothing but the standard library and its neighbours here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from infra.vllm import strata
from infra.vllm.adapter_names import target_of

VARIABLE = "TUNEGATE_USAGE"
MIDDLEWARE = "infra.vllm.usage.Meter"
TEXTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
PATHS = (*TEXTS, "/v1/embeddings", "/classify", "/pooling")
# vLLM writes compact JSON, and within a string a quote is escaped: these bytes stand where the key does.
USAGE = re.compile(rb',?"usage":(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
INDEX = re.compile(rb'"choices":\[\{"index":(\d+)')
LONGEST_USAGE = 2_048  # bytes: what is kept of an answer's end, for its usage may lie over two messages
WAITING = 10_000
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class UsageSettings(TypedDict):
    """What a slot's server is told: where its lines go (empty: none are written), its slot, and its release."""

    folder: str
    slot: str
    release: str


@dataclass
class Metered:
    """One request as it passed by. `asked`: its body, until the answer starts; `wanted`: what of the usage its client
    asked for. `used`: the last usage of each choice of a stream; of an answer as a whole under None."""

    key: str
    path: str
    request_id: str | None
    release: str
    slot: str
    at: float = field(default_factory=time.time)
    asked: bytearray = field(default_factory=bytearray)
    wanted: tuple[bool, bool] = (False, False)
    status: int = 0
    streams: bool = False
    ended: bool = False
    used: dict[bytes | None, dict[str, int]] = field(default_factory=dict)
    tail: bytes = b""

    def on_start(self, message: Message) -> None:
        self.status = int(message["status"])
        self.streams = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
        )
        self.wanted = wants(bytes(self.asked))
        self.asked.clear()

    def note(self, body: bytes) -> None:
        seen = self.tail + body
        for found in USAGE.finditer(seen):
            with contextlib.suppress(ValueError):
                usage = json.loads(found[1])
                index = INDEX.search(seen, 0, found.start()) if self.streams else None
                self.used[index[1] if index else None] = usage
        self.tail = b"" if self.streams else seen[-LONGEST_USAGE:]

    @property
    def parts(self) -> list[dict[str, int]]:
        """Of a stream that came to its end the total, else each of its choices."""
        return [self.used[None]] if None in self.used else list(self.used.values())

    @property
    def written(self) -> int:
        return sum(read(one, "completion_tokens", "output_tokens") for one in self.parts)

    def row(self) -> dict[str, object]:
        prompt = max((read(one, "prompt_tokens", "input_tokens") for one in self.parts), default=0)
        return {
            "at": round(self.at, 3), "key": self.key, "release": self.release, "path": self.path,
            "request_id": self.request_id, "status": self.status, "ended": self.ended,
            "prompt_tokens": prompt, "completion_tokens": self.written,
        }  # fmt: skip


def wants(asked: bytes) -> tuple[bool, bool]:
    """Whether the client asked for the usage at the end, and in every chunk."""
    if b"stream_options" not in asked:
        return False, False
    try:
        options = json.loads(asked)["stream_options"]
        return bool(options["include_usage"]), bool(options["include_usage"] and options.get("continuous_usage_stats"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False, False


def read(usage: dict[str, Any], *names: str) -> int:
    return next((int(usage[name]) for name in names if isinstance(usage.get(name), int)), 0)


class Meter:
    """The middleware. Its settings come by the environment, for vLLM gives none. A request without a key's name is none
    of an application: proofs and probes."""

    def __init__(self, app: Callable[..., Awaitable[None]], settings: UsageSettings | None = None) -> None:
        self.app = app
        self.settings: UsageSettings = settings if settings is not None else json.loads(os.environ[VARIABLE])
        self.writer = Writer(Path(self.settings["folder"]))
        self.tally = strata.Tally()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        target = target_of(scope.get("path", ""))
        if scope["type"] == "http" and target.path == strata.PATH:
            return await send_json(send, self.tally.strata)
        if scope["type"] != "http" or target.path not in PATHS:
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        key = headers.get(b"x-tunegate-key", b"").decode("latin-1")
        one = Metered(
            key,
            target.path,
            headers.get(b"x-request-id", b"").decode("latin-1") or None,
            target.adapter or self.settings["release"],
            target.slot or self.settings["slot"],
        )
        asked = self.tally.begin(target.path in TEXTS) if key else None

        async def tapped_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                one.asked += message.get("body", b"")
            return message

        async def tapped_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                if asked:
                    asked.read(bytes(one.asked))
                one.on_start(message)
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                one.note(body)
                if asked:
                    self.tally.answer(one.slot, asked, one.status, body)
                one.ended = not message.get("more_body", False)
                if one.streams and target.path != "/v1/responses":
                    message = {**message, "body": without_usage(body, *one.wanted)}
            await send(message)

        try:
            await self.app(scope, tapped_receive, tapped_send)
        except Exception:
            if asked and not one.status:  # uvicorn answers 500 in its place
                one.status = 500
                asked.read(bytes(one.asked))
            raise
        finally:
            if asked:
                self.tally.end(one.slot, asked, one.status, ended=one.ended, tokens=one.written)
            if key and one.status == 200 and self.settings["folder"]:
                self.writer.offer(one.slot, one.row())


async def send_json(send: Send, value: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


def without_usage(body: bytes, at_end: bool, always: bool) -> bytes:
    """Whole events, as vLLM sends them, as they were without the server's flag."""
    if always or b'"usage":' not in body:
        return body
    events = [
        event if b'"choices":[]' in event else USAGE.sub(b"", event)
        for event in body.split(b"\n\n")
        if at_end or b'"choices":[]' not in event
    ]
    return b"\n\n".join(events)


class Writer:
    """A bounded queue, and the thread that appends its rows to a file a slot and day (UTC), readable by its owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dropped = 0
        self.waiting: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue(WAITING)
        threading.Thread(target=self.work, daemon=True, name="usage").start()

    def offer(self, slot: str, row: dict[str, object]) -> None:
        """Never waits, never raises."""
        try:
            self.waiting.put_nowait((slot, row))
        except queue.Full:
            self.dropped += 1

    def work(self) -> None:
        while True:
            slot, row = self.waiting.get()
            while not self.write(slot, row):  # a full disk: what was used is not forgotten
                time.sleep(1)
            self.waiting.task_done()

    def write(self, slot: str, row: dict[str, object]) -> bool:
        day = time.strftime("%Y-%m-%d", time.gmtime(float(str(row["at"]))))
        line = json.dumps(row | {"dropped": self.dropped} if self.dropped else row).encode() + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{day}-{slot}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, line) != len(line):
                    os.ftruncate(descriptor, before)
                    return False
            finally:
                os.close(descriptor)
        except OSError:
            return False
        self.dropped = 0
        return True
