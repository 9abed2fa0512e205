"""What users asked of one server and what they got, summed over requests that are alike: by this two windows of unlike
traffic can still be compared (serve/watch/alike.py).

Counted inside vLLM by the middleware of infra.vllm.usage, which sees users' requests and no others; so it needs nothing
but the standard library. A stratum is named by its places in BODY_BYTES, IN_FLIGHT and MAX_TOKENS, and by whether the
answer was streamed: `3 0 5 1`.
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
ASKED_FOR = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})')
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
    first: float | None = None
    last: float = 0.0
    truncated: bool = False

    def read(self, body: bytes) -> None:
        found = ASKED_FOR.search(body)
        self.body_bytes, self.max_tokens = len(body), int(found[1]) if found else None

    def on_piece(self, piece: bytes) -> None:
        if piece:
            self.last = time.monotonic()
            self.first = self.last if self.first is None else self.first
            self.truncated = self.truncated or CUT_AT_LIMIT in piece

    def stratum(self, streams: bool) -> str:
        bound = len(MAX_TOKENS) if self.max_tokens is None else bisect_left(MAX_TOKENS, self.max_tokens)
        places = bisect_left(BODY_BYTES, self.body_bytes), bisect_left(IN_FLIGHT, self.in_flight), bound, int(streams)
        return " ".join(map(str, places))


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

    def end(self, slot: str, one: Asked, status: int, *, streams: bool, ended: bool, tokens: int) -> None:
        """`status` 0: its client left before there was any answer, which says nothing of the server. `tokens`: written
        so far; `ended`: to its own end."""
        self.in_flight -= 1
        if status:
            found = self.strata.setdefault(slot, {}).setdefault(one.stratum(streams), [0.0] * len(COLUMNS))
            found[:] = [a + b for a, b in zip(found, row(one, status, streams, ended, tokens), strict=True)]


def row(one: Asked, status: int, streams: bool, ended: bool, tokens: int) -> list[float]:
    """Of one request. Times only of what was answered; those of a text that is not streamed are its length's."""
    answered, whole = status == 200 and one.first is not None, status == 200 and ended and one.is_text
    first = one.first - one.begun if answered and one.first and (streams or not one.is_text) else None
    gap = None
    if whole and streams and one.first is not None and tokens > 1:
        gap = (one.last - one.first) / (tokens - 1)
    elif whole and not streams and tokens:
        gap = (one.last - one.begun) / tokens
    counts = (1, status >= 500, one.body_bytes, one.in_flight, one.in_second, one.in_minute)
    ends = whole and tokens <= 1, whole and one.truncated
    figures = (squared(value) for value in (first, gap, tokens if whole else None))
    return [float(value) for part in (counts, ends, *figures) for value in part]


def squared(value: float | None) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if value is None else (1.0, value, value * value)
