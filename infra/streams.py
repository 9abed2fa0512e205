"""Streams held open by the official OpenAI client, and what became of each: the client's side of a switch."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI

QUESTION: Any = [
    {"role": "system", "content": "Answer with one JSON function call.\nfind_train(city: string, day?: string)"},
    {"role": "user", "content": "I want to go to Lisbon on Monday."},
]
STREAM_TOKENS = 120
PROBE_SECONDS = 10.0


@dataclass
class Streams:
    """`count` threads, each with one stream open at any time from `open` to `close`; a slow probe from `probe` on."""

    base_url: str
    model: str
    api_key: str
    count: int
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _results: list[tuple[str, str, str]] = field(default_factory=list)

    def client(self) -> OpenAI:
        from openai import OpenAI

        # No retries: a request that failed once has failed.
        return OpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=0, timeout=600)

    def start(self, work: Any) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def open(self) -> None:
        for _ in range(self.count):
            self.start(self.keep_streaming)

    def probe(self) -> None:
        self.start(self.keep_asking)

    def keep_streaming(self) -> None:
        client = self.client()
        while not self._ended.is_set():
            self.stream(client, STREAM_TOKENS)

    def keep_asking(self) -> None:
        client = self.client()
        while not self._ended.wait(PROBE_SECONDS):
            self.stream(client, 2, kind="probe")

    def stream(self, client: OpenAI, tokens: int, kind: str = "stream") -> None:
        """One stream, read to its end. Without a finish_reason it was cut, whatever the socket says."""
        outcome, release = "failed", ""
        try:
            reply: Any = client.chat.completions.with_raw_response.create(
                model=self.model, messages=QUESTION, max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
            )
            release, outcome = reply.headers.get("x-tunegate-release", ""), "cut"
            reasons = [chunk.choices[0].finish_reason for chunk in reply.parse() if chunk.choices]
            outcome = "completed" if reasons and reasons[-1] else "cut"
        except Exception:  # every way to fail is counted, none is excused
            time.sleep(0.2)
        self._results.append((kind, outcome, release))

    def close(self) -> dict[str, int]:
        """Waits for every stream to end; the counts over all of them."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        streams = [outcome for kind, outcome, _ in self._results if kind == "stream"]
        every = [outcome for _, outcome, _ in self._results]
        return {
            "streams_completed": streams.count("completed"),
            "streams_cut": every.count("cut"),
            "requests_failed": every.count("failed"),
            "probes_completed": every.count("completed") - streams.count("completed"),
            "releases_seen": len({release for _, _, release in self._results if release}),
        }

    def ask(self) -> dict[str, str]:
        """One streamed answer: its text, and the release that gave it."""
        reply: Any = self.client().chat.completions.with_raw_response.create(model=self.model, messages=QUESTION, max_tokens=48, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in reply.parse() if chunk.choices)
        return {"release": reply.headers["x-tunegate-release"], "slot": reply.headers["x-tunegate-slot"], "answer": text}
