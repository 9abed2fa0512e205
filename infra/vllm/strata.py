"""What users asked of one server and what they got, summed over requests that are alike: by this two windows of unlike
traffic can still be compared (serve/watch/alike.py).

Counted inside vLLM by the middleware of infra.vllm.usage, which sees users' requests and no others; so it needs nothing
but the standard library. A stratum is named by its places in BODY_BYTES, IN_FLIGHT and MAX_TOKENS, and by whether a
stream was asked for: `3 0 5 1`. Asked for, not given: an error is no stream, and must not look like other traffic.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

PATH = "/tunegate/strata"  # not one of the router's paths: only whoever reaches the server itself reads it
# Upper edges. Of the body and not of its tokens: it is known of a request that failed, and of any tokenizer.
BODY_BYTES = tuple(2**power for power in range(8, 21))
IN_FLIGHT = tuple(2**power for power in range(9))
MAX_TOKENS = (16, 64, 256, 1_024, 4_096)
SECONDS = (1.0, 60.0)  # over which arrivals are counted: a burst, and a busy minute
# Of each figure the number, the sum, the sum of squares. `first`: seconds to the first token, of what is no text to the
# answer; `gap`: seconds a token; `tokens`: of an answer that came to its end. The rest are sums over `requests`.
COLUMNS = (
    "requests", "failed", "body_bytes", "in_flight", "in_second", "in_minute", "empty", "truncated",
    "first_n", "first", "first_squares", "gap_n", "gap", "gap_squares", "tokens_n", "tokens", "tokens_squares",
)  # fmt: skip
# By stratum: a value for each of COLUMNS.
Strata = dict[str, list[float]]
STREAM = re.compile(rb'"stream"\s*:\s*true')
BOUND = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})')
CUT_AT_LIMIT = b'"finish_reason":"length"'


@dataclass
class Asked:
    """One request, as it passes. Seconds are monotonic; `in_flight`, `in_second` and `in_minute` count it too."""

    begun: float
    in_flight: int
    in_second: int
    in_minute: int
    is_text: bool = True
    body_bytes: int = 0
    max_tokens: int | None = None
    streams: bool = False
    first: float | None = None
    last: float = 0.0
    truncated: bool = False
    is_counted: bool = False

    def read(self, body: bytes) -> None:
        found = BOUND.search(body)
        self.body_bytes, self.max_tokens = len(body), int(found[1]) if found else None
        self.streams = STREAM.search(body) is not None

    def on_piece(self, piece: bytes) -> None:
        if piece:
            self.last = time.monotonic()
            self.first = self.last if self.first is None else self.first
            self.truncated = self.truncated or CUT_AT_LIMIT in piece

    @property
    def stratum(self) -> str:
        bound = len(MAX_TOKENS) if self.max_tokens is None else bisect_left(MAX_TOKENS, self.max_tokens)
        body, flight = bisect_left(BODY_BYTES, self.body_bytes), bisect_left(IN_FLIGHT, self.in_flight)
        return f"{body} {flight} {bound} {int(self.streams)}"


@dataclass
class Tally:
    """Of one server, by slot: two may live in it. Used from one thread."""

    strata: dict[str, Strata] = field(default_factory=dict)
    in_flight: int = 0
    arrivals: deque[float] = field(default_factory=deque)

    def begin(self, is_text: bool = True) -> Asked:
        now = time.monotonic()
        self.arrivals.append(now)
        while self.arrivals[0] < now - SECONDS[1]:
            self.arrivals.popleft()
        second = next((n for n, at in enumerate(reversed(self.arrivals)) if at < now - SECONDS[0]), len(self.arrivals))
        self.in_flight += 1
        return Asked(now, self.in_flight, second, len(self.arrivals), is_text)

    def answer(self, slot: str, one: Asked, status: int, piece: bytes) -> None:
        """Counted when the answer begins, for a long one may outlast the watch."""
        one.on_piece(piece)
        if one.first is not None and not one.is_counted:
            self.add(slot, one, begin_row(one, status))

    def end(self, slot: str, one: Asked, status: int, *, ended: bool, tokens: int) -> None:
        """`status` 0: its client left before there was any answer, which says nothing of the server. `tokens`: written
        so far; `ended`: to its own end."""
        self.in_flight -= 1
        if status and not one.is_counted:
            self.add(slot, one, begin_row(one, status))
        if status == 200 and ended and one.is_text:
            self.add(slot, one, end_row(one, tokens))

    def add(self, slot: str, one: Asked, row: list[float]) -> None:
        one.is_counted = True
        found = self.strata.setdefault(slot, {}).setdefault(one.stratum, [0.0] * len(COLUMNS))
        found[:] = [a + b for a, b in zip(found, row, strict=True)]


def begin_row(one: Asked, status: int) -> list[float]:
    """Of one request whose answer begins. A text that is not streamed begins with its end, which is its length's."""
    timed = status == 200 and one.first is not None and (one.streams or not one.is_text)
    first = squared(one.first - one.begun) if timed and one.first is not None else NOTHING
    return [1.0, float(status >= 500), one.body_bytes, one.in_flight, one.in_second, one.in_minute, 0.0, 0.0,
            *first, *NOTHING, *NOTHING]  # fmt: skip


def end_row(one: Asked, tokens: int) -> list[float]:
    """Of one text that came to its end."""
    gap = NOTHING
    if one.streams and one.first is not None and tokens > 1:
        gap = squared((one.last - one.first) / (tokens - 1))
    elif not one.streams and tokens:
        gap = squared((one.last - one.begun) / tokens)
    return [0.0] * 6 + [float(tokens <= 1), float(one.truncated), *NOTHING, *gap, *squared(tokens)]


NOTHING = (0.0, 0.0, 0.0)


def squared(value: float) -> tuple[float, float, float]:
    """One observation: the number, the sum, the sum of squares."""
    return 1.0, value, value * value
