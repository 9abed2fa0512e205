"""Effects on traffic: moved step by step, and counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from configs.errors import ExternalError
from configs.slots import SlotName, other
from infra.haproxy.servers import Traffic
from serve.record.environment import Environment
from serve.record.facts import Counters, Queued, Stepped, Switched, TrafficCounts
from serve.record.receipt import receipt_of_rollback, write_receipt
from serve.record.state import State
from serve.watch.watcher import count_slot

if TYPE_CHECKING:
    import httpx


def count_traffic(env: Environment) -> dict[SlotName, TrafficCounts]:
    return {name: dict(vars(one)) for name, one in env.router.traffic().items()}


def count_server(env: Environment, slot: SlotName) -> dict[SlotName, Counters]:
    """The counters of one slot. At a switch of the one that traffic comes to alone: the other may hang, and a
    rollback waits for nobody."""
    return {slot: count_slot(env, slot).model_dump(mode="json", exclude_none=True)}


def step(env: Environment, state: State, slot: SlotName, weight: int) -> None:
    """Gives the candidate its share of new requests, or takes a share back that nobody gave."""
    facts: Stepped = {
        "weight": weight,
        "counted": count_server(env, slot) if weight else {},
        "before": count_traffic(env),
        "unanswered": env.router.unanswered(),
        "release": state.release_of(slot),
    }
    if weight != state.moves.weight:
        env.report_progress(f"{weight} % of new requests to {slot}")
    env.router.set_weights({other(slot): 100 - weight, slot: weight})
    if env.router.is_paused():
        env.router.resume()
    env.record.append("stepped", slot, **facts)


def queue(env: Environment, state: State, slot: SlotName) -> None:
    """The intent alone: from here on the router is held, by whichever effect comes next."""
    env.report_progress(f"swap: new requests wait in the router while {slot} is stopped")
    before, unanswered, counted = count_traffic(env), env.router.unanswered(), count_server(env, slot)
    facts: Queued = {
        "release": state.release_of(slot), "before": before, "unanswered": unanswered, "counted": counted,
    }  # fmt: skip
    env.record.append("queued", slot, **facts)


def switch(env: Environment, state: State, slot: SlotName) -> None:
    """Moves new requests; the counts of the other slot are kept, so that the receipt can say what became of its
    streams."""
    env.report_progress(f"switch to {slot}")
    moves = state.moves
    old = None if state.active is None and moves.swapping is None else other(slot)
    left = moves.baseline_counters["release"] if moves.baseline_counters else None
    env.record.append("switching", slot)
    counted, before, unanswered = count_server(env, slot), count_traffic(env), env.router.unanswered()
    flip, first_request, flips = flip_router(env, slot)
    facts: Switched = {
        "before": before,
        "unanswered": unanswered,
        "counted": counted,
        "flip_milliseconds": flip,
        "first_request_milliseconds": first_request,
        "streams_open_at_switch": before[old]["open"] if old else 0,
        "from": old,
        "from_release": state.release_of(old) or left,
    }
    if flips:
        facts["flip_milliseconds_by_router"] = flips
    env.record.append("switched", slot, **facts)
    if state.wanted.rollback:
        after = env.record.state()
        write_receipt(env, after, receipt_of_rollback(env, after))


def flip_router(env: Environment, slot: SlotName) -> tuple[float, float, dict[str, float]]:
    """Milliseconds that the router took, and that the first request then took to be answered by `slot`; of several
    routers, what each took."""
    with router_client() as client:
        started = time.perf_counter()
        flips = env.router.switch(slot)
        if env.router.is_paused():
            env.router.resume()
        flipped = time.perf_counter()
        wait_for_slot(env, slot, client)
        first = time.perf_counter()
    return round(1000 * (flipped - started), 1), round(1000 * (first - flipped), 1), flips


def router_client() -> httpx.Client:
    """For the router's own probe, which needs no key and goes over loopback: reading certificates would cost 70 ms."""
    import httpx

    return httpx.Client(timeout=5, verify=False)


def wait_for_slot(env: Environment, slot: SlotName, client: httpx.Client, seconds: float = 10) -> None:
    """Until a request through each router is answered by `slot`: what a client sees, not what the router believes.
    /health wants no key and has no limit, and is open whatever router.paths says."""
    import httpx

    path = env.router.health_path
    deadline = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < deadline:
        for url in env.router.base_urls:
            try:
                seen = client.get(url + path).headers.get("x-tunegate-slot")
            except httpx.HTTPError as error:
                seen = type(error).__name__
            if seen != slot:
                break
        if seen == slot:
            return
        time.sleep(0.002)
    raise ExternalError(
        f"the router still answers from {seen}, not from {slot}", hint=f"tunegate status {env.config.name}"
    )


def traffic_of(env: Environment, slot: SlotName) -> Traffic:
    return env.router.traffic()[slot] if env.router.is_running() else Traffic(0, 0, 0, 0, 0)
