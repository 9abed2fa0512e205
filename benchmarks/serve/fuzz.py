"""Schemathesis against the router with a valid key, from the router's own document: whatever it sends, a 5xx is one
that by the document the model server may give, and none of the router's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.prove import Row, console

SECONDS = 180
LEAST = 200


def fuzz(env: Any, key: str, folder: Path) -> Row:
    """What became of each request is read in the router's access log."""
    import httpx

    address = f"{env.router.base_url}/openapi.json"
    described = httpx.get(address).json()
    log = env.folder / "router/access.jsonl"
    before = log.stat().st_size
    words = [str(Path(sys.executable).with_name("schemathesis")), "run", address]
    words += [
        "--header",
        f"Authorization: Bearer {key}",
        "--checks",
        "not_a_server_error",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "30",
    ]
    words += [
        "--max-time",
        str(SECONDS),
        "--request-timeout",
        "60",
        "--continue-on-failure",
        "--suppress-health-check",
        "all",
        "--seed",
        "17",
        "--no-shrink",
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=3 * SECONDS)
    console.print(done.stdout[-1500:], markup=False)
    with log.open("rb") as stream:
        stream.seek(before)
        lines = [json.loads(line) for line in stream.read().splitlines() if line.startswith(b"{")]
    return judge(lines, described["paths"])


def judge(lines: list[dict[str, Any]], paths: dict[str, Any]) -> Row:
    """`termination` is `--` where the model server's answer came whole."""
    failed = [one for one in lines if one["status"] >= 500]
    ours = [one for one in failed if one["termination"] != "--" or str(one["status"]) not in documented(paths, one)]
    value = f"{len(ours)} of {len(lines)}, {len(failed) - len(ours)} documented ones" + "".join(
        f"; {one['path']} {one['status']}" for one in ours[:3]
    )
    name = "schemathesis from the router's own document, real vLLM: answers 5xx that are the router's or not described"
    return Row(name, value, f"0 of {LEAST} at least", not ours and len(lines) >= LEAST)


def documented(paths: dict[str, Any], line: dict[str, Any]) -> set[str]:
    """The router's own words for a server that is gone or silent are none of the server's."""
    return {*paths.get(line["path"], {}).get(line["method"].lower(), {}).get("responses", {})} - {"502", "503", "504"}
