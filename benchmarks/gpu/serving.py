"""Part `serve`: vLLM serves a release of the 8B's shape, parity with transformers' own answers holds; what it holds of
the GPU beside its cache, against the plan's arithmetic."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from benchmarks.gpu.rows import MISSED, gpu_held_gib, write_row
from benchmarks.gpu.servers import FOLDER, read_release, releases, use_serve_python

CACHE = re.compile(r"Available KV cache memory: ([\d.]+) GiB")


def main(tiny: bool) -> int:
    from infra.vllm.parity import check_parity
    from infra.vllm.server import temporary_slot

    use_serve_python()
    started = time.monotonic()
    reference = releases(tiny)[0]
    write_row("serve", "two releases made", round(time.monotonic() - started, 1), unit="s")
    folder, manifest = read_release(reference)
    log, before, started = FOLDER / "serve.log", gpu_held_gib(), time.monotonic()
    log.unlink(missing_ok=True)
    with temporary_slot(folder, manifest, served_name="m", log=log) as url:
        write_row("serve", "start to healthy", round(time.monotonic() - started, 1), unit="s")
        found = check_parity(url, "m", folder, manifest)
        facts = {"difference": found.difference, "prompts": found.prompts}
        held = write_row("serve", "parity: agreement", found.agreement, "passed", found.passed, **facts)
        taken = gpu_held_gib()
        if before is not None and taken is not None:
            write_row(
                "serve", "GPU memory of the server", round(taken - before, 2), unit="GiB", cache_gib=cache_of(log)
            )
    return 0 if held else MISSED


def cache_of(log: Path) -> float | None:
    """GiB of the key-value cache, as vLLM says it; None where its words have changed."""
    found = CACHE.search(log.read_text(encoding="utf8", errors="replace"))
    return float(found[1]) if found else None


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
