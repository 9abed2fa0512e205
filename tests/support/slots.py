"""Slots for tests, started by the product's own way: a small Python server stands in for vLLM."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.release import Manifest
from configs.run.serving import Serving
from infra.vllm.server import SlotProcess, free_port, start_slot, wait_healthy
from infra.vllm.tracing import TraceSettings

Start = Callable[..., SlotProcess]
# As vLLM does, it has a helper process in its group, answers /health only after a while, and drains on SIGTERM; $MANNER
# says what else it does.
VLLM = """
import os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

def drain(number, frame):
    print("SIGTERM", flush=True)
    if os.environ["MANNER"] != "stubborn":
        sys.exit(0)

class Health(BaseHTTPRequestHandler):
    codes = [503, 503]

    def do_GET(self):
        self.send_response(self.codes.pop() if self.codes else 200)
        self.end_headers()

signal.signal(signal.SIGTERM, drain)
subprocess.Popen(["sleep", "60"])
if os.environ["MANNER"] == "dies":
    sys.exit("".join(f"line {number}\\n" for number in range(20)) + "out of memory")
if os.environ["MANNER"] == "mute":
    time.sleep(60)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
"""


def manifest(task: str = "causal-lm", **serving: Any) -> Manifest:
    fields: Any = {"name": "demo", "digest": "sha256:" + "0" * 64, "task": task, "files": [], "quantization": {}}
    return Manifest.model_construct(serving=Serving(**serving), **fields)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts slots by the product's own way; `python -m vllm...` finds the stand-in."""
    module = tmp_path / "site/vllm/entrypoints/openai/api_server.py"
    module.parent.mkdir(parents=True)
    module.write_text(VLLM)
    (tmp_path / "site/vllm/__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", sys.executable)
    monkeypatch.setenv("MANNER", "drains")
    started: list[SlotProcess] = []

    def begin(
        manner: str = "drains", *, healthy: bool = True, index: int | None = None, traced: TraceSettings | None = None
    ) -> SlotProcess:
        monkeypatch.setenv("MANNER", manner)
        port = free_port()
        started.append(
            start_slot(
                tmp_path / "release",
                manifest(),
                port=port,
                served_name="assistant",
                log=tmp_path / f"logs/{port}.log",
                index=index,
                traced=traced,
            )
        )
        if healthy:
            wait_healthy(started[-1], 30)
        return started[-1]

    yield begin
    for slot in started:
        with suppress(ProcessLookupError):
            os.killpg(slot.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(slot.pid, 0)


def server_of(slot: SlotProcess) -> psutil.Process:
    """Its arguments and environment can be read a moment after Popen returns: the kernel sets them up last."""
    server = psutil.Process(slot.pid)
    while not server.cmdline():
        time.sleep(0.01)
    return server
