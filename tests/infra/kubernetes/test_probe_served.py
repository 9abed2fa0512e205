"""The probes and the drain of a pod, at a real vLLM: a server of each task answers the least it can be asked, and its
counts of open requests are what the drain takes them for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from configs.release import read_manifest
from configs.run.config import RunConfig
from infra.kubernetes import probe
from infra.kubernetes.server_pod import tiny_request
from infra.vllm.server import free_port, temporary_slot
from tests.support.tiny_release import write_release
from tests.train.conftest import chat, checkout, classifier, tiny_bert, tiny_gpt, tokenizer
from tests.train.tasks import test_tasks_served
from tests.train.tasks.test_tasks_served import released

__all__ = ["chat", "checkout", "classifier", "tiny_bert", "tiny_gpt", "tokenizer"]
pytestmark = pytest.mark.integration
serve_environment = test_tasks_served.serve_environment


def is_answered(release: Path, port: int, seen: Path) -> bool:
    path, body = tiny_request("m", read_manifest(release))
    return probe.answers(port, path, json.dumps(body), 30, seen)


def port_of(base_url: str) -> int:
    return int(base_url.rpartition(":")[2])


@pytest.mark.parametrize("kind", ["tags", "rewards"])
def test_a_server_of_a_task_without_text_answers_its_probe(
    kind: str, classifier: Callable[..., RunConfig], chat: Callable[..., RunConfig], checkout: Path
) -> None:
    make = chat if kind == "rewards" else classifier
    _, paths = released(make(train={"max_steps": 1}, serving={"max_model_len": 256}), kind)
    manifest = read_manifest(paths.release)
    with temporary_slot(paths.release, manifest, served_name="m", log=checkout / "vllm.log") as base_url:
        assert is_answered(paths.release, port_of(base_url), checkout / "seen")


def test_a_drain_ends_with_the_last_stream_and_counts_none_that_its_client_left(checkout: Path) -> None:
    write_release(checkout, "drained", 3, "pass")
    (release,) = checkout.glob("releases/drained@*/release")
    assert not is_answered(release, free_port(), checkout / "seen")
    with temporary_slot(release, read_manifest(release), served_name="m", log=checkout / "vllm.log") as base_url:
        port = port_of(base_url)
        assert is_answered(release, port, checkout / "seen") and probe.total(port, probe.OPEN) == 0
        ended: list[float] = []
        threading.Thread(target=lambda: (stream(port, 400), ended.append(time.monotonic()))).start()
        wait_until(lambda: (probe.total(port, probe.OPEN) or 0) > 0)
        assert is_answered(release, port, checkout / "seen")  # by its progress
        assert probe.drain(port, 0.1, 120, 60) == "no request runs or waits"
        assert ended and time.monotonic() >= ended[0]
        stream(port, 450, leave_after=5)
        wait_until(lambda: probe.total(port, probe.OPEN) == 0)


def stream(port: int, tokens: int, leave_after: int | None = None) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    body = {"model": "m", "prompt": "hello", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    seen = 0
    while line := answer.readline():
        seen += line.startswith(b"data: {")
        if seen == leave_after:
            break
    connection.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
