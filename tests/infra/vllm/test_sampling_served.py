"""A real vLLM with our middleware inside: it streams as before, what it said is on disk, is replayed as a load, its
counters are read, and it sleeps and wakes (a CPU's gives no memory back by that)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.environment.load_test import LoadTest
from configs.release import read_manifest
from infra.dvc.releases import folder_of
from infra.vllm.counters import Counted, between, read_metrics
from infra.vllm.runtime import lay_to_sleep, wake
from infra.vllm.sampling import sampling_of
from infra.vllm.server import SlotProcess, free_port, start_slot, stop_slot, wait_healthy
from infra.vllm.sleep import PATH
from serve.load.run import run_load_test
from serve.load.samples import read_trace
from tests.serve.conftest import checkout, publish

__all__ = ["checkout", "publish"]  # fixtures
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(publish: Callable[..., str]) -> Iterator[tuple[SlotProcess, Path]]:
    """A slot that samples everything and can sleep, and its release's directory."""
    directory = folder_of(publish("sampled", 3)) / "release"
    config = DeployConfig.model_validate(
        {"name": "x", "model": "assistant", "state_dir": "sampled", "sampling": {"share": 1.0}}
    )
    slot = start_slot(
        directory,
        read_manifest(directory),
        port=free_port(),
        served_name="assistant",
        log=Path("sampled/blue.log"),
        sampled=sampling_of(config, "blue"),
        sleeps=True,
    )
    try:
        wait_healthy(slot, 600)
        yield slot, directory
    finally:
        stop_slot(slot, drain_seconds=5)


@pytest.fixture
def served(server: tuple[SlotProcess, Path]) -> tuple[str, Path]:
    slot, directory = server
    return slot.base_url, directory


def sampled(count: int) -> list[Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = [path.read_text() for path in Path("sampled/samples").glob("*.jsonl")]
        if sum(text.count("\n") for text in lines) >= count:
            break
        time.sleep(0.05)
    return sorted(read_trace(Path("sampled/samples")), key=lambda row: row["at"])


def counted(base_url: str) -> Counted:
    """A machine under load may take longer than the watch waits."""
    deadline = time.monotonic() + 60
    while not (found := read_metrics(base_url)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return Counted(**found)


def streamed(base_url: str, body: dict[str, object]) -> list[bytes]:
    """An answer as the server wrote it: one of its chunks a piece, however the network joined them."""
    connection = HTTPConnection(base_url.removeprefix("http://"), timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    with closing(connection), connection.getresponse() as reply:
        return list(iter(reply.read1, b""))


def test_what_it_says_is_streamed_and_on_disk_without_addresses(served: tuple[str, Path]) -> None:
    base_url, _ = served
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": "ask ann@example.org"}],
        "max_tokens": 6,
        "temperature": 0,
    }
    whole = httpx.post(f"{base_url}/v1/chat/completions", json=body, timeout=120).json()["choices"][0]["message"][
        "content"
    ]
    pieces = streamed(base_url, body | {"stream": True})
    events = [json.loads(line[6:]) for line in b"".join(pieces).decode().splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == whole
    assert len(pieces) >= 3, (
        "the role, some tokens and the end at least: how many tokens vLLM puts into one piece depends on who is faster"
    )
    assert httpx.post(f"{base_url}/v1/chat/completions", json={"messages": 3}, timeout=60).status_code == 400
    rows = sampled(3)
    assert [row["status"] for row in rows] == [200, 200, 400]
    # a row's answer is a mapping
    assert [row["answer"]["text"] for row in rows[:2]] == [whole, whole]  # type: ignore[index]
    assert rows[0]["body"]["messages"][0]["content"] == "ask [email]" and rows[0]["redactions"] == 1  # type: ignore[index]


def test_the_samples_are_a_load_and_vllm_counts_it(served: tuple[str, Path]) -> None:
    base_url, directory = served
    before, many = counted(base_url), len(sampled(3))
    settings = LoadTest(trace="sampled/samples", trace_speed=10, seconds=60)
    figures = run_load_test(
        base_url,
        "assistant",
        read_manifest(directory),
        settings=settings,
        prompts=directory / "golden.jsonl",
        folder=Path("replayed"),
    )
    after = counted(base_url)
    assert figures["requests"] == many and figures["failures"] == sum(
        row["status"] != 200 for row in sampled(many)[:many]
    )
    window = between(before, after)
    assert window.answers == window.truncated == many - figures["failures"]
    assert window.first is not None and window.per_token is not None and window.lengths is not None
    assert window.first.n == window.lengths.n == window.answers and window.lengths.total == 6 * window.answers


def test_asleep_it_answers_nobody_and_awake_it_says_the_same(server: tuple[SlotProcess, Path]) -> None:
    slot, _ = server
    message = {"role": "user", "content": "still there?"}
    body = {"model": "assistant", "messages": [message], "max_tokens": 6, "temperature": 0}

    def answer() -> str:
        reply = httpx.post(f"{slot.base_url}/v1/chat/completions", json=body, timeout=120).json()
        return str(reply["choices"][0]["message"]["content"])

    before = answer()
    for _ in range(2):  # a command that was killed lays it to sleep again
        lay_to_sleep(slot, 60)
    assert httpx.get(f"{slot.base_url}{PATH}", timeout=60).json() == {"asleep": True}
    assert httpx.get(f"{slot.base_url}/health", timeout=60).status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{slot.base_url}/v1/chat/completions", json=body, timeout=2)
    for _ in range(2):
        wake(slot, 60)
    assert answer() == before


@pytest.mark.parametrize("path", ["/sleep", "/wake_up", "/collective_rpc", "/server_info"])
def test_vllms_development_server_stays_shut(served: tuple[str, Path], path: str) -> None:
    assert httpx.post(f"{served[0]}{path}", json={}, timeout=60).status_code == 404
