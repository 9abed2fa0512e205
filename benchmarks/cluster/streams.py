"""Two routers as pods, by real processes on addresses of this machine: ten thousand streams open through them while
they switch, and slots of a thousand pods. The API server is the tests' (tests/support/fake_cluster.py).

.venv/bin/python -m benchmarks.prove cluster streams pods
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.prove import Row, console
from configs.slots import SLOTS, SlotName
from infra.haproxy.servers import Servers
from infra.kubernetes.probe import PORT
from infra.router_pods.routers import Routers
from tests.support.fake_cluster import free_address
from tests.support.kills import wait_until
from tests.support.router_scene import KEY, RouterScene, router_scene

ROUTERS = ("r1", "r2")
STREAMS, LATER = 10_000, 200
PARTS, GAP_SECONDS = 20, 6.0  # of a stream: two minutes
AT_ONCE = 200  # requests that are being opened
SERVERS_A_SLOT = 8  # each takes three quarters of a model server's backlog from each router
PODS, POD_BYTES = 1_000, 6_000
FLIP_MILLISECONDS, SWITCH_SECONDS, HEAL_SECONDS, MOST_OF_A_CORE = 500, 1.0, 5.0, 0.25


@contextmanager
def servers(*addresses: str) -> Iterator[None]:
    """One process that answers at all of them."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.cluster.streams", *addresses])
    try:
        wait_until(lambda: answers(addresses[-1]), 30)
        yield
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    host = "127.0.0.1" if address == "0.0.0.0" else address
    try:
        return httpx.get(f"http://{host}:{PORT}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def routers_before(addresses: dict[SlotName, list[str]], **facts: Any) -> Iterator[RouterScene]:
    """Both are told that blue serves. `addresses`: of the pods, by slot."""
    with tempfile.TemporaryDirectory() as folder, router_scene(Path(folder), **facts) as scene:
        scene.api.pod_bytes = POD_BYTES
        for slot in SLOTS:
            for number, address in enumerate(addresses[slot]):
                scene.addresses[f"{slot}-{number}"] = address
                scene.put(f"{slot}-{number}", slot)
        scene.begin(*ROUTERS)
        yield scene


class Streams:
    """Each read to its end, in one process. `ended`: how many ended whole, were cut, or failed."""

    def __init__(self, urls: list[str]) -> None:
        self.urls, self.ended, self.slots = urls, Counter[str](), Counter[str]()
        self.open = 0
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def run(self, number: int, parts: int) -> None:
        try:
            reader, writer, head = await self.opened(number, parts)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.ended[f"failed: {type(error).__name__}"] += 1
            return
        if " 200 " not in head.partition("\r\n")[0]:
            self.ended[f"failed: {head.partition(chr(13))[0]}"] += 1
            return
        self.slots[head.partition("x-tunegate-slot: ")[2].partition("\r\n")[0]] += 1
        self.open += 1
        try:
            self.ended["whole" if await is_whole(reader) else "cut"] += 1
        except OSError as error:
            self.ended[f"cut: {type(error).__name__}"] += 1
        self.open -= 1
        writer.close()

    async def opened(self, number: int, parts: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """By hand: ten thousand clients of a library would be busy with themselves. Up to the answer's headers."""
        host, _, port = self.urls[number % len(self.urls)].removeprefix("http://").partition(":")
        body = json.dumps({"model": "m", "max_tokens": parts, "metadata": {"gap_seconds": GAP_SECONDS}}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"x-tunegate-sticky: {number}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self.gate:
            reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 14)
            writer.write(head.encode() + body)
            return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode()


async def is_whole(reader: asyncio.StreamReader) -> bool:
    """Whether the last word came, and the end of the chunked body after it."""
    last = b""
    while not last.endswith(b"\r\n0\r\n\r\n"):
        part = await reader.read(1 << 14)
        if not part:
            return False
        last = (last + part)[-64:]
    return b"[DONE]" in last


async def switch_under_streams(routers: Routers) -> tuple[Streams, dict[str, float], int]:
    """All are open on blue, then new requests go to green: some more are opened, and all read to their end."""
    streams = Streams(routers.base_urls)
    running = [asyncio.create_task(streams.run(number, PARTS)) for number in range(STREAMS)]
    while streams.open < STREAMS and not streams.ended:
        await asyncio.sleep(0.2)
    opened = streams.open
    flips = await asyncio.to_thread(routers.switch, "green")
    running += [asyncio.create_task(streams.run(number, 1)) for number in range(LATER)]
    await asyncio.gather(*running)
    return streams, flips, opened


def streams() -> list[Row]:
    """Ten thousand at once through two routers."""
    addresses: dict[SlotName, list[str]] = {slot: [free_address() for _ in range(SERVERS_A_SLOT)] for slot in SLOTS}
    settings = {"max_connections": STREAMS * 3 // 4, "max_body_kib": 64}  # of a body each stream holds a buffer
    with ExitStack() as stack:
        for slot in SLOTS:
            stack.enter_context(servers(*addresses[slot]))
        scene = stack.enter_context(routers_before(addresses, router=settings, replicas=SERVERS_A_SLOT))
        wait_until(lambda: all(scene.ask(name)[0] == 200 for name in ROUTERS), 20)
        found, flips, opened = asyncio.run(switch_under_streams(scene.routers))
        counted = scene.routers.traffic()
    console.print(f"ended: {dict(found.ended)}; by slot: {dict(found.slots)}; {counted}", markup=False)
    others = sum(found.ended.values()) - found.ended["whole"]
    cut = sum(one.cut_by_server + one.failed for one in counted.values())
    name = f"{opened} streams open through two routers at a switch, {found.slots['green']} after it"
    is_all = opened == STREAMS and found.slots == {"blue": STREAMS, "green": LATER}
    slowest = max(flips.values())
    return [
        Row(f"{name}: not whole, as clients saw", others, "0", others == 0 and is_all),
        Row("cut or failed of them, as both routers counted", cut, "0", cut == 0),
        Row(
            "the slowest router's flip under them, ms", slowest, f"≤ {FLIP_MILLISECONDS}", slowest <= FLIP_MILLISECONDS
        ),
    ]


def pods() -> list[Row]:
    """Slots of a thousand pods each, at addresses that one process answers."""
    addresses: dict[SlotName, list[str]] = {
        slot: [f"127.{100 + index}.{n // 250}.{n % 250 + 1}" for n in range(PODS)] for index, slot in enumerate(SLOTS)
    }
    with servers("0.0.0.0"), routers_before(addresses, replicas=PODS) as scene:
        told = until(lambda: all(leading(scene, name) == {"blue": PODS, "green": PODS} for name in ROUTERS), 60)
        flips, spent = zip(*(timed_switch(scene, SLOTS[number % 2]) for number in range(1, 21)), strict=True)
        scene.api.delete("pods", "blue-7", silently=True)
        healed = until(lambda: all(leading(scene, name)["blue"] == PODS - 1 for name in ROUTERS), 20)
        began = time.monotonic()
        scene.routers.traffic()
        counting = time.monotonic() - began
        processes = [scene.processes[name].pid for name in ROUTERS]
        proxies = [int(scene.haproxy(name).facts()["Pid"]) for name in ROUTERS]
        memory, proxy = (max(map(resident_mebibytes, one)) for one in (processes, proxies))
        busy, proxy_busy = share_of_a_core(processes), share_of_a_core(proxies)
    console.print(
        f"{PODS} pods a slot known {told:.1f} s after the routers were told; counts of both in {counting:.2f} s; "
        f"a router's process {memory:.0f} MiB, its HAProxy {proxy:.0f} MiB and {proxy_busy} of a core"
    )
    size = f"two slots of {PODS} pods of {POD_BYTES} bytes"
    return [
        Row(f"{size}: a switch, the slowest of 20, s", max(spent), f"≤ {SWITCH_SECONDS}", max(spent) <= SWITCH_SECONDS),
        Row(
            f"{size}: the slowest router's flip, ms",
            max(flips),
            f"≤ {FLIP_MILLISECONDS}",
            max(flips) <= FLIP_MILLISECONDS,
        ),
        Row(f"{size}: an end that no watch told of, s", healed, f"≤ {HEAL_SECONDS}", healed <= HEAL_SECONDS),
        Row(
            f"{size}: a router's process at rest, share of a core", busy, f"≤ {MOST_OF_A_CORE}", busy <= MOST_OF_A_CORE
        ),
    ]


def until(condition: Any, most_seconds: float) -> float:
    began = time.monotonic()
    wait_until(condition, most_seconds)
    return round(time.monotonic() - began, 1)


def timed_switch(scene: RouterScene, slot: SlotName) -> tuple[float, float]:
    """Milliseconds of the slowest router; seconds until all had confirmed."""
    began = time.monotonic()
    flips = scene.routers.switch(slot)
    return max(flips.values()), round(time.monotonic() - began, 3)


def leading(scene: RouterScene, name: str) -> dict[str, int]:
    """Servers by slot that lead to a pod, in one router."""
    seen = Servers.of(scene.haproxy(name), scene.config).states().items()
    return {
        slot: sum(backend == slot and server.startswith(slot) and not one.is_out for (backend, server), one in seen)
        for slot in SLOTS
    }


def resident_mebibytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def share_of_a_core(pids: list[int], seconds: float = 10) -> float:
    """The busiest of these processes."""
    before = [ticks(pid) for pid in pids]
    time.sleep(seconds)
    return round(max(ticks(pid) - then for pid, then in zip(pids, before, strict=True)) / 100 / seconds, 3)


def ticks(pid: int) -> int:
    """Of 10 ms, in user and kernel mode (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf8").rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def serve(addresses: list[str]) -> None:
    from aiohttp import web

    from benchmarks.serve.streams_server import make_app

    web.run_app(make_app("pods"), host=addresses, port=PORT, print=None, access_log=None, backlog=4096)


if __name__ == "__main__":
    serve(sys.argv[1:])
