"""Users' traffic on a simulated server, summed up as the middleware in vLLM does it: what a request takes depends on
its length and on how many are in flight, and a release is `slow` times slower at that."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

import numpy

from infra.vllm.counters import Counted
from infra.vllm.strata import COLUMNS, SECONDS, Asked, Strata, begin_row, end_row

BEGUN = 1_000.0


def asked(
    *,
    body_bytes: int = 1_000,
    in_flight: int = 1,
    in_second: int = 1,
    in_minute: int = 1,
    max_tokens: int | None = None,
    first: float = 0.05,
    gap: float = 0.02,
    tokens: int = 20,
    truncated: bool = False,
    status: int = 200,
    streams: bool = True,
    is_text: bool = True,
) -> Strata:
    """The table of one request. Seconds."""
    last = BEGUN + first + gap * max(0, tokens - 1)
    one = Asked(
        BEGUN, in_flight, in_second, in_minute, is_text, body_bytes, max_tokens, streams, BEGUN + first, last, truncated
    )
    whole = end_row(one, tokens) if is_text and status == 200 else [0.0] * len(COLUMNS)
    return {one.stratum: [a + b for a, b in zip(begin_row(one, status), whole, strict=True)]}


def counted(*tables: Strata, broken: int = 0) -> Counted:
    """A window of these requests; of `broken` ones only the router knows that they failed."""
    total: Strata = {}
    for name, one in (item for table in tables for item in table.items()):
        total[name] = [a + b for a, b in zip(total.get(name, [0.0] * len(one)), one, strict=True)]
    failed = sum(row[1] for row in total.values())
    return Counted(requests=sum(int(row[0]) for row in total.values()), failed=int(failed) + broken, strata=total)


def simulated(
    seed: int,
    n: int,
    *,
    rate: float = 2.0,
    median_bytes: float = 1_000,
    slow: float = 1.0,
    fails: Callable[[int], float] = lambda body_bytes: 0.0,
    tokens: float = 30,
) -> list[Strata]:
    """Requests in the order of their arrival, `rate` a second (Poisson), their bodies log-normal. `fails`: the chance
    of an error by the body's length."""
    draw = numpy.random.default_rng(seed)
    gaps, bodies = draw.exponential(1 / rate, n), draw.lognormal(numpy.log(median_bytes), 0.6, n)
    noise, lengths, luck = draw.gamma(4, 1 / 4, (n, 2)), draw.poisson(tokens, n) + 1, draw.random(n)
    now, open_until, arrivals, found = 0.0, list[float](), deque[float](), list[Strata]()
    for number in range(n):
        now += gaps[number]
        arrivals.append(now)
        while arrivals[0] < now - SECONDS[1]:
            arrivals.popleft()
        while open_until and open_until[0] <= now:
            heapq.heappop(open_until)
        body, length, in_flight = int(bodies[number]), int(lengths[number]), len(open_until) + 1
        first = slow * (0.02 + body / 20_000) * (1 + in_flight / 10) * noise[number, 0]
        gap = slow * 0.03 * (1 + in_flight / 10) * noise[number, 1]
        heapq.heappush(open_until, now + first + gap * length)
        found.append(
            asked(
                body_bytes=body,
                in_flight=in_flight,
                in_second=sum(at >= now - SECONDS[0] for at in arrivals),
                in_minute=len(arrivals),
                first=first,
                gap=gap,
                tokens=length,
                status=500 if luck[number] < fails(body) else 200,
            )
        )
    return found
