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


@dataclass
class Streams:
    """`count` threads, each with one stream open at any time from `open` to `close`."""

    base_url: str
    model: str
    api_key: str
    count: int
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _results: list[tuple[str, str]] = field(default_factory=list)

    def client(self) -> OpenAI:
        from openai import OpenAI

        # No retries: a request that failed once has failed.
        return OpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=0, timeout=600)

    def open(self) -> None:
        for _ in range(self.count):
            self._threads.append(threading.Thread(target=self.keep_streaming, daemon=True))
            self._threads[-1].start()

    def keep_streaming(self) -> None:
        client = self.client()
        while not self._ended.is_set():
            self.stream(client, STREAM_TOKENS)

    def stream(self, client: OpenAI, tokens: int) -> None:
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
        self._results.append((outcome, release))

    def close(self) -> dict[str, int]:
        """Waits for every stream to end; the counts over all of them."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        became = [outcome for outcome, _ in self._results]
        return {
            "streams_completed": became.count("completed"),
            "streams_cut": became.count("cut"),
            "requests_failed": became.count("failed"),
            "releases_seen": len({release for _, release in self._results if release}),
        }

    def ask(self) -> dict[str, str]:
        """One streamed answer: its text, and the release that gave it."""
        reply: Any = self.client().chat.completions.with_raw_response.create(model=self.model, messages=QUESTION, max_tokens=48, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in reply.parse() if chunk.choices)
        return {"release": reply.headers["x-tunegate-release"], "slot": reply.headers["x-tunegate-slot"], "answer": text}
