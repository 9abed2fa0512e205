"""Part `switch`: two servers of the 8B's shape on one GPU; a switch and a rollback between them under 64 streams, and
what the router adds to the time to the first token."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from contextlib import chdir
from statistics import median, quantiles
from typing import Any

from benchmarks.gpu.rows import MISSED, gpu_held_gib, write_row
from benchmarks.gpu.servers import FOLDER, releases, use_serve_python
from benchmarks.serve.switches import Load, clients, golden_answers, switch_often, wait_for_streams, wrong_releases
from configs.slots import SLOTS

FLIP_MILLISECONDS, ROLLBACK_SECONDS, ROUTER_SHARE = 50.0, 1.0, 0.01
PROBES = 40


def main(tiny: bool) -> int:
    from serve.deploy import stop_all
    from tests.support.fake_servers import fake_environment
    from tests.support.judging import judged_when_asked

    use_serve_python()
    load = Load(8, 40, 1, 1) if tiny else Load(64, 200, 1, 1)
    references = releases(tiny)
    with chdir(FOLDER), judged_when_asked():
        shutil.rmtree("state", ignore_errors=True)
        slots = {} if tiny else {"slots": {"devices": "auto"}}
        env = fake_environment(bake_seconds=1, drain_deadline_seconds=60, keep_old_slot=True, **slots)
        try:
            started = time.monotonic()
            flips, lines, rollbacks = switch_often(env, references, load)
            write_row("switch", "two deploys and a rollback", round(time.monotonic() - started, 1), unit="s")
            held = write_switches(flips, lines, rollbacks, golden_answers(references), load)
            write_row("switch", "GPU memory of both servers", gpu_held_gib(), unit="GiB")
            held &= write_router_share(env, load)
        finally:
            stop_all(env)
    return 0 if held else MISSED


def write_switches(
    flips: list[dict[str, Any]], lines: list[dict[str, Any]], rollbacks: list[float], golden: dict[str, str], load: Load
) -> bool:
    count = {outcome: sum(one["outcome"] == outcome for one in lines) for outcome in ("completed", "cut", "failed")}
    opened, wrong = [one["open"] for one in flips], wrong_releases(lines, golden, by_name=False)
    longest = round(max(one["flip_milliseconds"] + one["first_request_milliseconds"] for one in flips), 1)
    facts = {"switches": len(flips), "open": opened, "completed": count["completed"]}
    whole = count["cut"] == 0 and min(opened) >= 0.9 * load.streams
    held = write_row("switch", "streams cut", count["cut"], f"0, about {load.streams} open", whole, **facts)
    held &= write_row("switch", "requests failed", count["failed"], "0", count["failed"] == 0, of=len(lines))
    held &= write_row("switch", "answers of a wrong release", wrong, "0", wrong == 0)
    # Two switches and no more: the longest is above any percentile of them.
    goal = f"< {FLIP_MILLISECONDS:g} ms"
    held &= write_row("switch", "longest flip", longest, goal, longest < FLIP_MILLISECONDS, unit="ms")
    back = round(max(rollbacks), 2)
    return held & write_row("switch", "rollback", back, f"< {ROLLBACK_SECONDS:g} s", back < ROLLBACK_SECONDS, unit="s")


def write_router_share(env: Any, load: Load) -> bool:
    """Probes through the router and straight at the server take turns, while streams are open through the router."""
    from infra.haproxy.api_keys import api_key

    os.environ["TUNEGATE_PROVE_KEY"] = api_key(env.config)
    server = env.config.slot_ports[SLOTS.index(env.router.active())]
    ways = (env.router.base_url, f"http://127.0.0.1:{server}")
    with clients(FOLDER, env.router.base_url, env.config.model, load) as close:
        wait_for_streams(env, load.streams)
        through, straight = asyncio.run(first_tokens(ways, env.config.model, api_key(env.config)))
        close()
    share = (median(through) - median(straight)) / median(through)
    facts = {"through_ms": spread(through), "straight_ms": spread(straight), "probes": PROBES, "streams": load.streams}
    goal, held = f"< {ROUTER_SHARE:.0%}", share < ROUTER_SHARE
    return write_row("switch", "router's share of time to first token", round(share, 4), goal, held, **facts)


async def first_tokens(ways: tuple[str, str], model: str, key: str) -> tuple[list[float], list[float]]:
    """Milliseconds to the first chunk with text, by way."""
    import aiohttp

    found: tuple[list[float], list[float]] = ([], [])
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for number in range(2 * PROBES):
            way = (number + number // 2) % 2  # one, other, other, one: no way always comes second
            messages = [{"role": "user", "content": f"probe {number}"}]
            body = {"model": model, "messages": messages, "max_tokens": 4, "stream": True, "ignore_eos": True}
            started = time.perf_counter()
            async with session.post(f"{ways[way]}/v1/chat/completions", json=body) as reply:
                reply.raise_for_status()
                async for line in reply.content:
                    if b'"content":"' in line.replace(b": ", b":") and b'"content":""' not in line.replace(b": ", b":"):
                        found[way].append((time.perf_counter() - started) * 1000)
                        break
                await reply.read()
    return found


def spread(values: list[float]) -> list[float]:
    """Quartiles."""
    return [round(one, 2) for one in quantiles(values, n=4)]


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
