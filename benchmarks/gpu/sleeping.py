"""Part `sleep`: a server that was started so that it can sleep, laid to sleep and woken as a deploy does it: seconds,
GiB given back, whether the answers are the same afterwards."""

from __future__ import annotations

import sys
import time

from benchmarks.gpu.rows import MISSED, gpu_held_gib, write_row
from benchmarks.gpu.servers import FOLDER, read_release, releases, use_serve_python

WAKE_SECONDS = 5.0
START_SECONDS = 120
TIMES = 2  # the first time the host's memory is pinned


def main(tiny: bool) -> int:
    from infra.vllm.parity import check_parity
    from infra.vllm.runtime import lay_to_sleep, wake
    from infra.vllm.server import free_port, start_slot, stop_slot, wait_healthy

    use_serve_python()
    folder, manifest = read_release(releases(tiny)[0])
    held, log = True, FOLDER / "sleep.log"
    server = start_slot(folder, manifest, port=free_port(), served_name="m", log=log, sleeps=True)
    try:
        wait_healthy(server, START_SECONDS)
        for number in range(1, TIMES + 1):
            before, started = gpu_held_gib(), time.monotonic()
            lay_to_sleep(server, START_SECONDS)
            seconds, after = round(time.monotonic() - started, 2), gpu_held_gib()
            freed = None if before is None or after is None else round(before - after, 2)
            write_row("sleep", f"{number}: GiB given back", freed, held_gib=after, seconds=seconds)
            started = time.monotonic()
            wake(server, START_SECONDS)
            seconds, goal = round(time.monotonic() - started, 2), f"< {WAKE_SECONDS:g} s"
            held &= write_row("sleep", f"{number}: wake", seconds, goal, seconds < WAKE_SECONDS)
            parity = check_parity(server.base_url, "m", folder, manifest)
            held &= write_row("sleep", f"{number}: parity after it", parity.agreement, "passed", parity.passed)
    finally:
        stop_slot(server, drain_seconds=5)
    return 0 if held else MISSED


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
