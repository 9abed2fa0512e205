"""ASGI middleware inside vLLM: writes a share of requests and answers down, and never slows or breaks one.

Every message is passed on at once and only then looked at; parsing, redaction and writing happen in a thread; what its
queue cannot take is dropped and counted. Loaded by vLLM's `--middleware infra.vllm.sampling.Sampler`, so it needs
nothing but the standard library, `infra.vllm.adapter_names` and `infra.vllm.redaction`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from re import Pattern
from typing import TYPE_CHECKING, Any, TypedDict, cast

from infra.vllm.adapter_names import target_of
from infra.vllm.redaction import compiled, redact

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig

VARIABLE = "TUNEGATE_SAMPLING"
MIDDLEWARE = "infra.vllm.sampling.Sampler"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/classify", "/pooling")
MOST_BYTES = 1 << 20  # of a question, of an answer: a longer one is dropped and counted
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SamplerSettings(TypedDict):
    """What a slot's server is told: the environment's `sampling` section, the largest share that anybody wants, and
    where the samples go."""

    share: float
    redact: bool
    patterns: dict[str, str]
    queue: int
    file_mebibytes: int
    files: int
    folder: str
    slot: str


def sampling_of(config: DeployConfig, slot: str) -> SamplerSettings | None:
    """What the slot's server is told; None where nothing is sampled: then it runs without the middleware."""
    from infra.state.folder import state_folder

    settings = config.sampling
    strategy = config.strategy.share / 100 if config.strategy.kind == "shadow" else 0.0
    share = max(settings.share, config.shadow.share if config.shadow else 0.0, strategy)
    folder = str((state_folder(config) / "samples").absolute())
    told = settings.model_dump() | {"share": share, "folder": folder, "slot": slot}
    return cast("SamplerSettings", told) if share else None


@dataclass
class Exchange:
    """One request and its answer as they passed by, in bytes."""

    path: str
    slot: str
    request_id: str | None = None
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    question: list[bytes] = field(default_factory=list)
    answer: list[bytes] = field(default_factory=list)
    question_bytes: int = 0
    answer_bytes: int = 0
    status: int = 0
    first_seconds: float | None = None
    seconds: float = 0.0
    ended: bool = False

    def on_request(self, message: Message) -> None:
        if message["type"] == "http.request":
            self.question_bytes += len(message.get("body", b""))
            if self.question_bytes <= MOST_BYTES:
                self.question.append(message.get("body", b""))

    def on_response(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self.seconds = time.perf_counter() - self.started
            if body and self.first_seconds is None:
                self.first_seconds = self.seconds
            self.answer_bytes += len(body)
            if self.answer_bytes <= MOST_BYTES:
                self.answer.append(body)
            self.ended = not message.get("more_body", False)


class Sampler:
    """The middleware. Its settings come by the environment, for vLLM gives none."""

    def __init__(self, app: Callable[..., Awaitable[None]], settings: SamplerSettings | None = None) -> None:
        self.app = app
        chosen = settings if settings is not None else json.loads(os.environ.get(VARIABLE, '{"share": 0}'))
        self.share = float(chosen["share"])
        self.writer = Writer(chosen) if self.share else None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        writer = self.writer
        target = target_of(scope.get("path", ""))
        if writer is None or scope["type"] != "http" or target.path not in PATHS or random.random() >= self.share:
            return await self.app(scope, receive, send)
        exchange = Exchange(
            target.path,
            target.slot or writer.slot,
            dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1") or None,
        )

        async def tapped_receive() -> Message:
            message = await receive()
            with contextlib.suppress(Exception):
                exchange.on_request(message)
            return message

        async def tapped_send(message: Message) -> None:
            await send(message)
            with contextlib.suppress(Exception):
                exchange.on_response(message)

        try:
            await self.app(scope, tapped_receive, tapped_send)
        finally:
            writer.offer(exchange)


class Writer:
    """A bounded queue and the thread that empties it into files of JSON lines, readable by their owner only."""

    def __init__(self, settings: SamplerSettings) -> None:
        self.folder, self.slot = Path(settings["folder"]), str(settings["slot"])
        self.limit, self.files = int(settings["file_mebibytes"]) << 20, int(settings["files"])
        self.patterns = compiled(settings["patterns"]) if settings["redact"] else {}
        self.waiting: queue.Queue[Exchange] = queue.Queue(int(settings["queue"]))
        self.counts = {"written": 0, "dropped": 0, "unreadable": 0}
        self.paths: dict[str, Path] = {}
        threading.Thread(target=self.work, daemon=True, name="sampling").start()

    def offer(self, exchange: Exchange) -> None:
        """Never waits, never raises. An answer whose end did not pass by is none."""
        if not exchange.ended:
            return
        if max(exchange.question_bytes, exchange.answer_bytes) > MOST_BYTES:
            self.counts["dropped"] += 1
            return
        try:
            self.waiting.put_nowait(exchange)
        except queue.Full:
            self.counts["dropped"] += 1

    def work(self) -> None:
        while True:
            exchange = self.waiting.get()
            try:
                self.write(exchange.slot, row_of(exchange, self.patterns))
                self.counts["written"] += 1
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                self.counts["unreadable"] += 1
            except Exception:  # a full disk, most likely: the next sample tries again
                self.counts["dropped"] += 1
            with contextlib.suppress(OSError):
                (self.folder / f"{self.slot}.counts.json").write_text(json.dumps(self.counts), encoding="utf8")
            self.waiting.task_done()

    def write(self, slot: str, row: Mapping[str, object]) -> None:
        """`slot`: the server's own, or the other one that lives in it too."""
        line, path = json.dumps(row, ensure_ascii=False).encode() + b"\n", self.paths.get(slot)
        if path is None or path.stat().st_size + len(line) > self.limit:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.paths[slot] = self.folder / f"{slot}-{time.time_ns()}.jsonl"
            for old in sorted(self.folder.glob(f"{slot}-*.jsonl"))[: -self.files + 1 or None]:
                old.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(line)


def row_of(exchange: Exchange, patterns: dict[str, Pattern[str]]) -> dict[str, object]:
    """A row of serve.trace: at, path, body; with it what was answered. Raises ValueError for what is no JSON."""
    body, taken = redact(json.loads(b"".join(exchange.question)), patterns)
    answer, more = redact(read_answer(b"".join(exchange.answer).decode()), patterns)
    return {
        "at": exchange.at, "path": exchange.path, "request_id": exchange.request_id, "body": body,
        "status": exchange.status, "answer": answer,
        "redactions": taken + more, "first_seconds": exchange.first_seconds, "seconds": exchange.seconds,
    }  # fmt: skip


def read_answer(text: str) -> dict[str, object]:
    """`text`, `finish_reason` and `tokens` of a chat or completion, streamed or whole; the JSON of anything else."""
    streamed = text.startswith("data:")
    replies = (
        [json.loads(line[5:]) for line in text.split("\n") if line.startswith("data: {")]
        if streamed
        else [json.loads(text)]
    )
    choices = [reply["choices"][0] for reply in replies if reply.get("choices")]
    if not choices and not streamed:
        return {"json": replies[0]}
    parts = [choice.get("message") or choice.get("delta") or {"content": choice.get("text")} for choice in choices]
    calls = [call["function"].get("arguments") or "" for part in parts for call in part.get("tool_calls") or []]
    usage = [reply["usage"] for reply in replies if reply.get("usage")]
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    text = "".join([*(part.get("content") or "" for part in parts), *calls])
    return {
        "text": text,
        "finish_reason": ends[-1] if ends else None,
        "tokens": usage[-1].get("completion_tokens") if usage else None,
    }
