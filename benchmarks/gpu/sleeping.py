"""Part `sleep`: vLLM's sleep mode by its own endpoints: seconds of going to sleep and of waking, GiB given back,
whether the answers are the same afterwards. Level 1 keeps the weights in the host's memory, level 2 drops
them (vLLM's docs, Sleep Mode)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.rows import MISSED, gpu_held_gib, write_row
from benchmarks.gpu.servers import FOLDER, read_release, releases, use_serve_python
from configs.release import Manifest

if TYPE_CHECKING:
    import httpx

WAKE_SECONDS = 5.0
LEVELS = (1, 2)


def main(tiny: bool) -> int:
    import httpx

    from infra.vllm.parity import check_parity

    use_serve_python()
    folder, manifest = read_release(releases(tiny)[0])
    held = True
    with server(folder, manifest, sleeps=not tiny) as url, httpx.Client(base_url=url, timeout=120) as client:
        for level in LEVELS:
            before, started = gpu_held_gib(), time.monotonic()
            reply = client.post("/sleep", params={"level": level})
            if reply.status_code != 200:
                write_row("sleep", f"level {level}", None, why=f"{reply.status_code}: {reply.text[:200]}")
                break
            slept, after = round(time.monotonic() - started, 2), gpu_held_gib()
            asleep = client.get("/is_sleeping").json()["is_sleeping"]
            freed = None if before is None or after is None else round(before - after, 2)
            facts = {"seconds": slept, "held_before_gib": before, "held_after_gib": after}
            held &= write_row("sleep", f"level {level}: GiB given back", freed, "asleep", asleep, **facts)
            started = time.monotonic()
            wake(client, level)
            woke = round(time.monotonic() - started, 2)
            goal = f"< {WAKE_SECONDS:g} s"
            held &= write_row("sleep", f"level {level}: wake", woke, goal, woke < WAKE_SECONDS, held_gib=gpu_held_gib())
            parity = check_parity(url, "m", folder, manifest)
            held &= write_row("sleep", f"level {level}: parity after it", parity.agreement, "passed", parity.passed)
    return 0 if held else MISSED


def wake(client: httpx.Client, level: int) -> None:
    """Level 2 has dropped the weights: they are read again, then the cache is made (vLLM, Sleep Mode, RL example)."""
    if level == 1:
        client.post("/wake_up").raise_for_status()
        return
    client.post("/wake_up", params={"tags": "weights"}).raise_for_status()
    client.post("/collective_rpc", json={"method": "reload_weights"}).raise_for_status()
    client.post("/wake_up", params={"tags": "kv_cache"}).raise_for_status()


@contextlib.contextmanager
def server(folder: Path, manifest: Manifest, *, sleeps: bool) -> Iterator[str]:
    """vLLM with its development endpoints, on loopback alone, until the block ends. `sleeps`: with sleep mode, which no
    CPU has. Raises ExternalError with the log's end where it does not start."""
    from infra.boot import ProcessId, identify
    from infra.vllm.arguments import own_cores, slot_environment, vllm_arguments
    from infra.vllm.server import VLLM, SlotProcess, free_port, serve_python, stop_slot, wait_healthy

    port, log = free_port(), FOLDER / "sleep.log"
    arguments = vllm_arguments(folder, manifest, port=port, served_name="m")
    arguments += ["--enable-sleep-mode"] if sleeps else []
    environment = slot_environment(manifest) | own_cores(None) | {"VLLM_SERVER_DEV_MODE": "1"}
    with log.open("wb") as stream:
        words = [str(serve_python()), "-m", VLLM, *arguments]
        process = subprocess.Popen(words, stdout=stream, stderr=stream, env=environment, start_new_session=True)
    slot = SlotProcess(identify(process.pid) or ProcessId(process.pid, "", 0), port, log)
    try:
        wait_healthy(slot, 120)
        yield slot.base_url
    finally:
        stop_slot(slot, drain_seconds=5)


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
