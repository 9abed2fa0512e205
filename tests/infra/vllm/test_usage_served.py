"""A real vLLM that meters: by key, what was written down is what its clients counted, streamed or not.

TUNEGATE_USAGE_REQUESTS: how many requests (60 here, 1,000 in `make prove-serve`).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.release import read_manifest
from infra.dvc.releases import folder_of
from infra.vllm.counters import read_strata
from infra.vllm.server import free_port, start_slot, stop_slot, wait_healthy
from infra.vllm.strata import COLUMNS
from serve.view.usage import read_usage, summed
from tests.serve.conftest import checkout, publish

__all__ = ["checkout", "publish"]  # fixtures
pytestmark = pytest.mark.integration
COUNT = int(os.environ.get("TUNEGATE_USAGE_REQUESTS", "60"))
KEYS = ["search", "mobile", "jwt:ann%40example.org"]
FOLDER = Path("metered/usage")


@pytest.fixture(scope="module")
def base_url(publish: Callable[..., str]) -> Iterator[str]:
    directory = folder_of(publish("metered", 3)) / "release"
    manifest = read_manifest(directory)
    slot = start_slot(
        directory,
        manifest,
        port=free_port(),
        served_name="assistant",
        log=Path("metered/blue.log"),
        metered={"folder": str(FOLDER.absolute()), "slot": "blue", "release": manifest.reference},
    )
    try:
        wait_healthy(slot, 600)
        yield f"http://127.0.0.1:{slot.port}"
    finally:
        stop_slot(slot, drain_seconds=5)


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def ask(client: httpx.Client, number: int) -> tuple[str, int, int]:
    """One request of some kind; its key, and the tokens of prompt and answers as its client counts them."""
    draw = random.Random(number)
    key, bound, copies = draw.choice(KEYS), draw.randint(1, 8), draw.choice([1, 1, 2])
    body: dict[str, Any] = {"model": "assistant", "max_tokens": bound, "n": copies, "ignore_eos": True}
    words = " ".join(["word"] * draw.randint(1, 6))
    headers = {"x-tunegate-key": key}
    asked: dict[str, Any] = {"prompt": words}
    path = "/v1/completions"
    if number % 2:
        path, asked = "/v1/chat/completions", {"messages": [{"role": "user", "content": words}]}
    kind = draw.choice(["whole", "stream", "stream with usage", "stream with usage throughout"])
    options = {"include_usage": True, "continuous_usage_stats": kind.endswith("throughout")}
    body |= {"stream": True} if kind != "whole" else {}
    body |= {"stream_options": options} if "usage" in kind else {}
    reply = client.post(path, json=asked | body, headers=headers)
    assert reply.status_code == 200, reply.text
    prompt = len(client.post("/tokenize", json={"model": "assistant", **asked}).json()["tokens"])
    if kind == "whole":
        assert reply.json()["usage"]["completion_tokens"] == bound * copies
    else:
        seen = [event for event in events_of(reply.text) if event.get("usage")]
        expected = {"stream": 0, "stream with usage": 1}.get(kind)
        assert expected is None or len(seen) == expected, (kind, reply.text)
        assert not seen or seen[-1]["usage"]["completion_tokens"] == bound * copies
    return key, prompt, bound * copies


def rows_of(count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(rows := list(read_usage(FOLDER, 0, 4e9))) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return rows


def test_the_sum_by_key_is_what_the_clients_counted(base_url: str) -> None:
    limits = httpx.Limits(max_connections=16)
    with httpx.Client(base_url=base_url, timeout=300, limits=limits) as client, ThreadPoolExecutor(16) as pool:
        counted = list(pool.map(lambda number: ask(client, number), range(COUNT)))
    prompts, written, requests = Counter[str](), Counter[str](), Counter[str]()
    for key, prompt, tokens in counted:
        prompts[key] += prompt
        written[key] += tokens
        requests[key] += 1
    found = {row["group"]: row for row in summed(rows_of(COUNT), "key")}
    assert {key: row["completion_tokens"] for key, row in found.items()} == written
    assert {key: row["prompt_tokens"] for key, row in found.items()} == prompts
    assert {key: row["requests"] for key, row in found.items()} == requests
    strata = read_strata("blue", base_url)
    assert strata is not None
    sums = dict(zip(COLUMNS, map(sum, zip(*strata.values(), strict=True)), strict=True))
    assert (sums["requests"], sums["tokens_n"], sums["failed"]) == (COUNT, COUNT, 0)
    assert sums["tokens"] == sum(written.values()) and 0 < sums["first_n"] < COUNT and sums["first"] > 0
    print(f"usage: {COUNT} requests of {len(found)} keys, {sum(prompts.values()) + sum(written.values())} tokens")


def test_of_a_stream_that_its_client_leaves_what_came_is_counted(base_url: str) -> None:
    body = {"model": "assistant", "prompt": "word", "max_tokens": 200, "ignore_eos": True, "stream": True}
    headers = {"x-tunegate-key": "impatient"}
    with httpx.stream("POST", f"{base_url}/v1/completions", json=body, headers=headers, timeout=300) as reply:
        lines = reply.iter_lines()
        pieces = [next(lines) for _ in range(6)]
    assert any(piece.startswith("data:") for piece in pieces)
    deadline = time.monotonic() + 60
    while not (left := [row for row in read_usage(FOLDER, 0, 4e9) if row["key"] == "impatient"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not left[0]["ended"] and 1 <= left[0]["completion_tokens"] < 200 and left[0]["prompt_tokens"] >= 1
