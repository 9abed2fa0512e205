"""Part `switch`: two servers of the 8B's shape on one GPU; a switch and a rollback between them under 64 streams, and
what the router adds to the time to the first token."""

from __future__ import annotations

import asyncio
import json
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
FIRST_TOKENS, AT_ONCE = 30, 200  # requests of each way


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
    """While streams are open through the router: what it adds to a request that the server answers at once, against the
    time to the first token. The difference of two times to the first token drowns in how they vary."""
    from infra.haproxy.api_keys import api_key

    os.environ["TUNEGATE_PROVE_KEY"] = key = api_key(env.config)
    server = env.config.slot_ports[SLOTS.index(env.router.active())]
    ways = (env.router.base_url, f"http://127.0.0.1:{server}")
    with clients(FOLDER, env.router.base_url, env.config.model, load) as close:
        wait_for_streams(env, load.streams)
        tokens = asyncio.run(in_turns(ways, key, FIRST_TOKENS, "/v1/chat/completions", env.config.model))
        at_once = asyncio.run(in_turns(ways, key, AT_ONCE, "/v1/models", None))
        close()
    added, first = median(at_once[0]) - median(at_once[1]), median(tokens[0] + tokens[1])
    facts: dict[str, Any] = {"added_ms": round(added, 3), "streams": load.streams}
    for name, (through, straight) in {"first_token_ms": tokens, "at_once_ms": at_once}.items():
        facts[name] = {"through": spread(through), "straight": spread(straight)}
    share, goal = added / first, f"< {ROUTER_SHARE:.0%}"
    return write_row(
        "switch", "router's share of time to first token", round(share, 4), goal, share < ROUTER_SHARE, **facts
    )


async def in_turns(
    ways: tuple[str, str], key: str, count: int, path: str, model: str | None
) -> tuple[list[float], list[float]]:
    """Milliseconds to the first chunk with text, by way; without a model to the answer's head. `count` of each way.
    Raises RuntimeError where the router has answered by itself."""
    import aiohttp

    found: tuple[list[float], list[float]] = ([], [])
    body = {"model": model, "max_tokens": 4, "stream": True, "ignore_eos": True}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for number in range(2 * count):
            way = (number + number // 2) % 2  # one, other, other, one: no way always comes second
            asked = {**body, "messages": [{"role": "user", "content": f"probe {number}"}]} if model else None
            started = time.perf_counter()
            async with session.request("POST" if model else "GET", ways[way] + path, json=asked) as reply:
                reply.raise_for_status()
                while model and not has_text(await reply.content.readline()):
                    pass
                found[way].append((time.perf_counter() - started) * 1000)
                await reply.read()
                if way == 0 and "x-tunegate-slot" not in reply.headers:
                    raise RuntimeError(f"{path}: the router answered by itself, so that its cost is not seen")
    return found


def has_text(line: bytes) -> bool:
    """Of a stream's line. Raises RuntimeError at the stream's end."""
    if not line:
        raise RuntimeError("a stream ended without a word")
    if not line.startswith(b"data: {"):
        return False
    choices = json.loads(line[6:])["choices"]
    return bool(choices and choices[0]["delta"].get("content"))


def spread(values: list[float]) -> list[float]:
    """Quartiles."""
    return [round(one, 2) for one in quantiles(values, n=4)]


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
