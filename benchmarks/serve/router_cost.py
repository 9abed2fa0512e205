"""What the router costs: time to the first token through it and straight at the server, beside LiteLLM's proxy and
vllm-router, in one run.

.venv/bin/python -m benchmarks.serve.router_cost
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.prove import FOLDER, Row, console, run

PYTHON = sys.executable
PROXIES = Path("build/prove/proxies")
MODEL, KEY = "assistant", "prove-key-of-thirty-two-letters-0"
ROUNDS, TOKENS = 3, 8
# Clients at once: requests of each a round, and seconds between two tokens. 32 clients of 10 ms streams keep two cores
# busy with the measuring
# itself, client and server (18 ms p99 straight at the server): then it is the queue for a core that is seen, and not
# the router.
LOADS = {1: (200, 0.01), 32: (25, 0.05)}
GOALS = {50: 0.5, 99: 3.0}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def proxies() -> Path:
    """Their own environment, from its lock, whatever an older lock left there: none of it is a part of the product."""
    if not (PROXIES / "bin/python").exists():
        run(".uv/bin/uv", "venv", "-q", "--clear", "--python", PYTHON, str(PROXIES))
    run(".uv/bin/uv", "pip", "sync", "-q", "--python", str(PROXIES / "bin/python"), "requirements/proxies.txt")
    return PROXIES / "bin"


@contextlib.contextmanager
def process(*command: str, url: str, **environment: str) -> Iterator[str]:
    """A server in its own session until the block ends. Raises RuntimeError where `url` does not answer 200 within two
    minutes."""
    import httpx

    log = FOLDER / f"{Path(command[0]).name}-{free_port()}.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | environment)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200:
                    yield url
                    return
            time.sleep(0.2)
        raise RuntimeError(
            f"{command[0]} does not answer at {url}:\n{log.read_text(encoding='utf8', errors='replace')[-1500:]}"
        )
    finally:
        server.terminate()
        server.wait(30)


Way = tuple[str, str]  # a base URL and its key


@contextlib.contextmanager
def tunegate_routers(upstream: int) -> Iterator[dict[str, Way]]:
    """The product's own, with checks of its servers and its log: by a key without limits; by one with limits, whose
    bodies it reads; and one that two environments share, where the body's model decides."""
    from configs.environment.config import DeployConfig
    from infra.haproxy.api_keys import KeyLimits, Keyring
    from infra.haproxy.router import Router

    folder = tempfile.mkdtemp(dir=FOLDER)

    def config_of(name: str, ports: list[int], **others: Any) -> DeployConfig:
        facts = {"name": name, "model": MODEL, "slot_ports": ports, "state_dir": f"{folder}/{name}"}
        return DeployConfig.model_validate(facts | others)

    alone = config_of("alone", [upstream, free_port()], router={"port": free_port()})
    host = config_of("host", [upstream, free_port()], router={"port": free_port()})
    behind = {"model": "another", "router_of": "host"}
    guest = config_of("guest", [free_port(), free_port()], **behind).behind(host)
    routers = [Router(config) for config in (alone, host, guest)]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for router in routers:
            router.start(KEY)
            stack.callback(router.stop, 5)
            router.set_release("blue", f"sha256:{0:064x}")
            router.switch("blue")
        limits = KeyLimits.model_validate({"tokens_per_minute": 10**9, "requests_per_minute": 10**6})
        limited = Keyring(alone).add("limited", limits)
        yield {
            "router": (routers[0].base_url, KEY),
            "with limits": (routers[0].base_url, limited),
            "shared": (routers[1].base_url, KEY),
        }


@contextlib.contextmanager
def litellm(upstream: int) -> Iterator[str]:
    port, path = free_port(), FOLDER / "litellm.json"
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    path.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
                "general_settings": {"master_key": f"sk-{KEY}"},
            }
        )
    )
    words = (
        str(proxies() / "litellm"),
        "--config",
        str(path),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    )
    with process(
        *words,
        url=f"http://127.0.0.1:{port}/health/liveliness",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_LOG="ERROR",
    ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def vllm_router(upstream: int) -> Iterator[str]:
    port = free_port()
    words = (
        str(proxies() / "vllm-router"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--worker-urls",
        f"http://127.0.0.1:{upstream}",
    )
    more = ("--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "error")
    with process(*words, *more, url=f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


async def first_tokens(url: str, clients: int, requests: int, gap_seconds: float, key: str) -> list[float]:
    """Milliseconds from sending a request to the first chunk of its answer, keep-alive, every answer read to its
    end."""
    import aiohttp

    found: list[float] = []
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "max_tokens": TOKENS,
        "metadata": {"gap_seconds": gap_seconds},
    }

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(TOKENS * gap_seconds * number / clients)  # nobody's requests all come in one moment
        for _ in range(requests):
            started, first = time.perf_counter(), None
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                reply.raise_for_status()
                async for line in reply.content:
                    first = first or (time.perf_counter() if b'"content"' in line else None)
            if first is None:
                raise RuntimeError(f"{url}: an answer without a token")
            found.append(1000 * (first - started))

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {key}"}) as session:
        await asyncio.gather(*(client(session, number) for number in range(clients)))
    return found


def measure() -> dict[tuple[str, int], dict[int, float]]:
    """Milliseconds by way, clients and percentile. The ways take turns, so that a slow minute of the machine is
    everyone's."""
    import numpy

    FOLDER.mkdir(parents=True, exist_ok=True)
    upstream, samples = free_port(), dict[tuple[str, int], list[float]]()
    with contextlib.ExitStack() as stack:
        words = (PYTHON, "-m", "benchmarks.serve.streams_server", str(upstream), "blue")
        stack.enter_context(process(*words, url=f"http://127.0.0.1:{upstream}/health"))
        ways = {"direct": (f"http://127.0.0.1:{upstream}", KEY)}
        ways |= stack.enter_context(tunegate_routers(upstream))
        ways["vllm_router"] = stack.enter_context(vllm_router(upstream)), KEY
        ways["litellm"] = stack.enter_context(litellm(upstream)), f"sk-{KEY}"
        for turn in range(ROUNDS):
            for clients, (requests, gap) in LOADS.items():
                for name, (url, key) in list(ways.items())[:: 1 if turn % 2 == 0 else -1]:
                    asyncio.run(first_tokens(url, clients, 3, gap, key))
                    samples.setdefault((name, clients), []).extend(
                        asyncio.run(first_tokens(url, clients, requests, gap, key))
                    )
                    console.print(f"round {turn + 1} of {ROUNDS}: {name}, {clients} clients")
    return {
        key: {percent: float(numpy.percentile(found, percent)) for percent in GOALS} for key, found in samples.items()
    }


def rows() -> list[Row]:
    found = measure()
    table: list[Row] = []
    for clients, (_, gap) in LOADS.items():
        for percent, goal in GOALS.items():
            direct = found["direct", clients][percent]
            added = {name: round(one[percent] - direct, 2) for (name, of), one in found.items() if of == clients}
            others = f"vllm-router adds {added['vllm_router']}, LiteLLM's proxy {added['litellm']}"
            load = f"{clients} client{'s' if clients > 1 else ''}, a token each {1000 * gap:.0f} ms"
            name = f"time to first token that the router adds, p{percent}, {load} ({direct:.2f} ms direct; {others})"
            table.append(Row(name, added["router"], f"below {goal:g} ms", added["router"] < goal))
            for more, what in (("with limits", "for a key with limits"), ("shared", "shared by two environments")):
                table.append(Row(f"the same {what}, p{percent}, {load}", added[more], "measured", True))
    return table


if __name__ == "__main__":
    for row in rows():
        print(row)
