"""What a pod asks its own server: real sockets, a server that says what the test wants."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.kubernetes import probe
from infra.vllm import counters
from infra.vllm.server import free_port
from tests.paths import ROOT

pytestmark = pytest.mark.unit
METRICS = """vllm:num_requests_running{{engine="0"}} {running}
vllm:num_requests_waiting{{engine="0"}} {waiting}
vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} 7.0
vllm:generation_tokens_total{{engine="0"}} {tokens}
vllm:request_success_total{{engine="0",finished_reason="abort"}} {aborted}
"""


@dataclass
class Server:
    """`status`: of its answers; None: it hangs. `gets_on`: a token more at each look."""

    port: int = 0
    status: int | None = 200
    gets_on: bool = False
    figures: dict[str, float] = field(default_factory=lambda: {"running": 0, "waiting": 0, "tokens": 5, "aborted": 0})
    asked: list[dict[str, object]] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.format(**found.figures).encode())
            found.figures["tokens"] += found.gets_on

        def do_POST(self) -> None:
            found.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if found.status is None:
                found.end.wait()
            self.send_response(found.status or 500)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.end.set()
    http.shutdown()
    thread.join()
    http.server_close()


def ask(server: Server, seen: Path, seconds: str = "0.2") -> int:
    return probe.main(["answers", "/v1/completions", '{"prompt": "a"}', seconds], server.port, seen)


def test_a_server_that_stands_still_is_asked_and_must_answer(server: Server, tmp_path: Path) -> None:
    assert ask(server, tmp_path / "seen") == 0
    assert server.asked == [{"prompt": "a"}]
    server.status = 500
    assert ask(server, tmp_path / "seen") == 1


def test_one_that_gets_on_with_its_users_requests_is_not_asked(server: Server, tmp_path: Path) -> None:
    ask(server, tmp_path / "seen")
    server.figures["tokens"] += 1
    server.status = None
    assert ask(server, tmp_path / "seen") == 0 and len(server.asked) == 1


def test_one_that_answers_late_because_it_is_full_is_ready(server: Server, tmp_path: Path) -> None:
    server.status, server.gets_on = None, True
    assert ask(server, tmp_path / "seen") == 0 and len(server.asked) == 1


def test_one_that_takes_requests_and_gets_nowhere_is_not(server: Server, tmp_path: Path) -> None:
    server.status = None
    assert [ask(server, tmp_path / "seen") for _ in range(2)] == [1, 1]


def test_requests_that_clients_gave_up_are_no_progress(server: Server, tmp_path: Path) -> None:
    ask(server, tmp_path / "seen")
    server.figures["aborted"] += 5
    server.status = None
    assert ask(server, tmp_path / "seen") == 1


def test_a_server_that_is_not_there_is_not_ready(tmp_path: Path) -> None:
    assert probe.main(["answers", "/", "{}", "1"], free_port(), tmp_path / "seen") == 1


def test_the_pod_ends_when_no_request_runs_or_waits(server: Server) -> None:
    server.figures |= {"running": 2, "waiting": 1}
    server.gets_on = True
    threading.Timer(1.2, lambda: server.figures.update(running=0, waiting=1)).start()
    threading.Timer(1.8, lambda: server.figures.update(waiting=0)).start()
    begun = time.monotonic()
    assert probe.drain(server.port, 0.1, 60, 60) == "no request runs or waits"
    assert time.monotonic() - begun > 1.8


def test_routers_get_time_to_see_that_no_more_is_to_come(server: Server) -> None:
    begun = time.monotonic()
    assert probe.drain(server.port, 1.5, 60, 60) == "no request runs or waits"
    assert time.monotonic() - begun >= 1.5


def test_the_deadline_ends_a_drain(server: Server) -> None:
    server.figures["running"], server.gets_on = 1, True
    assert probe.drain(server.port, 0.1, 1.5, 60) == "the deadline has passed"


def test_requests_that_no_longer_get_on_are_not_waited_for(server: Server) -> None:
    server.figures["running"] = 3
    assert probe.drain(server.port, 0.1, 60, 1.2) == "3 requests are open, and none gets on"


def test_a_server_that_has_ended_is_not_waited_for() -> None:
    assert probe.drain(free_port(), 5, 60, 60) == "the server has ended"


def test_the_file_runs_by_itself_without_our_packages(server: Server) -> None:
    file = ROOT / "infra/kubernetes/probe.py"
    run = subprocess.run([sys.executable, "-I", "-S", file, "drain", "0", "0", "0"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "the deadline has passed\n"), run.stderr


def test_progress_is_what_the_agent_calls_progress() -> None:
    assert sorted(probe.PROGRESS) == sorted(counters.PROGRESS)
