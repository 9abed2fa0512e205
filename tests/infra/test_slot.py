"""The vLLM server of a slot: its arguments, its environment, its life and its end. A small Python server stands in for vLLM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError, OutsideError
from configs.release import Manifest
from configs.schema import Serving
from infra.slot import (
    SlotProcess,
    free_port,
    is_alive,
    log_tail,
    own_cores,
    peak_memory_bytes,
    reap_orphan,
    sampling_environment,
    slot_environment,
    start_slot,
    stop_slot,
    temporary_slot,
    vllm_arguments,
    wait_healthy,
)

pytestmark = pytest.mark.unit

GPT = (
    "--model /releases/demo --served-model-name assistant --host 127.0.0.1 --port 8101 "
    "--dtype float32 --max-model-len 512 --max-num-seqs 32 --shutdown-timeout 30 --enforce-eager"
)
CLASSIFIER = f"{GPT} --runner pooling"
# As vLLM does, it has a helper process in its group, answers /health only after a while, and drains on SIGTERM; $MANNER says what else it does.
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
SECRETS = (
    "TUNEGATE_API_KEY TUNEGATE_DOOR_KEY MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN MLFLOW_TRACKING_URI AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY "
    "AWS_SESSION_TOKEN HF_TOKEN HUGGING_FACE_HUB_TOKEN OPENAI_API_KEY PGPASSWORD CI_JOB_TOKEN CI_REPOSITORY_URL GITLAB_TOKEN my_secret_word"
)
Start = Callable[..., SlotProcess]


def manifest(task: str = "causal-lm", **serving: Any) -> Manifest:
    return Manifest.model_construct(name="demo", task=task, serving=Serving(**serving))


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

    def begin(manner: str = "drains", *, healthy: bool = True, index: int | None = None) -> SlotProcess:
        monkeypatch.setenv("MANNER", manner)
        port = free_port()
        started.append(start_slot(tmp_path / "release", manifest(), port=port, served_name="assistant", log=tmp_path / f"logs/{port}.log", index=index))
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


def group_of(slot: SlotProcess) -> list[psutil.Process]:
    return [server_of(slot), *server_of(slot).children(recursive=True)]


def ended(processes: list[psutil.Process]) -> bool:
    """Within five seconds, all of them. Nobody may be there to bury an orphan, so a zombie has ended too."""
    deadline = time.monotonic() + 5
    while lives := [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            return not lives
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("task", "expected"), [("causal-lm", GPT), ("sequence-classification", CLASSIFIER)])
def test_these_are_all_the_arguments_that_vllm_gets(task: str, expected: str) -> None:
    assert " ".join(vllm_arguments(Path("/releases/demo"), manifest(task), port=8101, served_name="assistant")) == expected


def test_a_model_that_writes_tool_calls_is_served_with_the_parser_of_its_dialect() -> None:
    found = vllm_arguments(Path("/releases/demo"), manifest(tool_parser="hermes"), port=8101, served_name="assistant")
    assert " ".join(found) == f"{GPT} --enable-auto-tool-choice --tool-call-parser hermes"


@given(st.sampled_from(["causal-lm", "sequence-classification"]), st.integers(1, 65_535), st.builds(Serving, max_model_len=st.integers(16, 9999)))
def test_a_slot_listens_on_loopback_only_whatever_its_release_says(task: str, port: int, serving: Serving) -> None:
    arguments = vllm_arguments(Path("x"), manifest(task, **serving.model_dump()), port=port, served_name="m")
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word.startswith("--host")] == ["127.0.0.1"]
    assert arguments[arguments.index("--max-model-len") + 1] == str(serving.max_model_len)


def test_the_process_is_the_serve_environments_python_with_these_arguments_in_a_session_of_its_own(start: Start, tmp_path: Path) -> None:
    slot = start(healthy=False)
    arguments = vllm_arguments(tmp_path / "release", manifest(), port=slot.port, served_name="assistant")
    assert server_of(slot).cmdline() == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments]
    assert os.getsid(slot.pid) == slot.pid != os.getsid(0)


def test_no_secret_of_ours_reaches_the_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS.split():
        monkeypatch.setenv(name, "postgresql://me:canary@host/db")
    found = server_of(start(healthy=False)).environ()
    assert [name for name, value in found.items() if "canary" in value] == []
    assert found["PATH"] == os.environ["PATH"]


@given(st.text("abcXYZ_", max_size=5), st.sampled_from(["Key", "token", "SECRET", "passWord"]), st.text("abcXYZ_", max_size=5))
def test_a_name_that_speaks_of_a_secret_is_left_out_in_any_case(before: str, word: str, after: str) -> None:
    with mock.patch.dict(os.environ, {f"{before}{word}{after}": "canary", "PLAIN": "kept"}):
        found = slot_environment(manifest())
    assert "canary" not in found.values() and found["PLAIN"] == "kept"


def test_the_server_is_offline_tells_nobody_and_has_the_cache_that_the_release_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    expected = {"VLLM_CPU_KVCACHE_SPACE": "3", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    found = slot_environment(manifest(kv_cache_gib=3))
    assert found | expected == found and "PYTHONDONTWRITEBYTECODE" not in found


@pytest.mark.parametrize(("cores", "bound"), [({7, 3}, ["3", "7", "3,7"]), ({0}, [None] * 3), ({0, 1, 2}, [None] * 3)])
def test_on_two_cores_each_slot_gets_one_and_a_server_alone_both_and_else_vllm_chooses(
    start: Start, monkeypatch: pytest.MonkeyPatch, cores: set[int], bound: list[str | None]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert [own_cores(index).get("VLLM_CPU_OMP_THREADS_BIND") for index in (0, 1, None)] == bound
    assert server_of(start(healthy=False, index=1)).environ().get("VLLM_CPU_OMP_THREADS_BIND") == bound[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_refused_before_anything_starts(start: Start, tmp_path: Path, host: str) -> None:
    with socket.create_server((host, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(OutsideError, match=f"port {port} of the slot is taken"):
            start_slot(tmp_path, manifest(), port=port, served_name="m", log=tmp_path / "slot.log")
    assert not (tmp_path / "slot.log").exists()


def test_without_a_serve_environment_the_command_that_makes_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"no serve environment\n  try: make setup"):
        start_slot(tmp_path, manifest(), port=free_port(), served_name="m", log=tmp_path / "slot.log")


@given(st.floats(-1e9, 1e9).filter(lambda seconds: abs(seconds) > 2))
def test_another_process_with_the_same_pid_is_not_the_slot(seconds: float) -> None:
    me = psutil.Process()
    assert is_alive(SlotProcess(me.pid, me.create_time(), 1, Path("log")))
    assert not is_alive(SlotProcess(me.pid, me.create_time() + seconds, 1, Path("log")))


def test_a_zombie_is_not_alive_and_neither_is_a_process_that_is_gone() -> None:
    child = subprocess.Popen(["true"])
    slot = SlotProcess(child.pid, psutil.Process(child.pid).create_time(), 1, Path("log"))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.pid_exists(child.pid) and not is_alive(slot)
    child.wait()
    assert not is_alive(slot)


def test_healthy_is_a_200_and_nothing_less(start: Start) -> None:
    asked = start().log.read_text().split("GET /health HTTP/1.1")[1:]
    assert [line.split()[1] for line in asked] == ["503", "503", "200"]


def test_a_server_that_dies_is_told_at_once_with_the_end_of_its_log(start: Start) -> None:
    slot, began = start("dies", healthy=False), time.monotonic()
    with pytest.raises(OutsideError, match="ended while starting") as caught:
        wait_healthy(slot, 60)
    assert time.monotonic() - began < 30
    assert "line 19\n  out of memory" in str(caught.value) and "line 5" not in str(caught.value)
    assert caught.value.hint == f"less {slot.log}"


def test_a_server_that_is_late_is_given_up(start: Start) -> None:
    with pytest.raises(OutsideError, match=r"not healthy in 0\.6 s"):
        wait_healthy(start("mute", healthy=False), 0.6)


def test_the_end_of_any_log_is_short_and_none_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff" * 10_000 + b"\n" * 99 + b"x" * 10_000)
    assert [len(line) for line in log_tail(tmp_path / "log").split("\n")] == [2] * 7 + [202]
    assert log_tail(tmp_path / "none") == "  (no log)"


def test_a_server_that_drains_in_time_ends_by_sigterm_and_its_helpers_with_it(start: Start) -> None:
    slot = start()
    group, began = group_of(slot), time.monotonic()
    assert len(group) > 1
    stop_slot(slot, drain_seconds=30)
    assert time.monotonic() - began < 15 and "SIGTERM" in slot.log.read_text()
    assert ended(group) and not is_alive(slot)


def test_a_server_that_does_not_end_is_killed_with_its_helpers_once_its_streams_had_their_time(start: Start) -> None:
    slot = start("stubborn")
    group, began = group_of(slot), time.monotonic()
    stop_slot(slot, drain_seconds=0.7)
    assert 0.7 <= time.monotonic() - began < 15 and "SIGTERM" in slot.log.read_text()
    assert ended(group)


def test_the_helpers_of_a_server_that_died_are_ended_and_stopping_twice_is_stopping_once(start: Start) -> None:
    slot = start()
    server, *helpers = group_of(slot)
    server.kill()
    stop_slot(slot, drain_seconds=1)
    assert ended([server, *helpers])
    stop_slot(slot, drain_seconds=1)


def test_a_stranger_that_got_the_pid_of_a_dead_slot_is_left_alone() -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        stop_slot(SlotProcess(stranger.pid, psutil.Process(stranger.pid).create_time() - 1000, 1, Path("log")), drain_seconds=0)
        assert stranger.poll() is None
    finally:
        stranger.kill()


def test_an_orphan_on_the_port_is_ended_and_nobody_else(start: Start) -> None:
    orphan, neighbour = start(), start()
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)", "--port", str(orphan.port)])
    try:
        group = group_of(orphan)
        reap_orphan(orphan.port)
        assert ended(group) and is_alive(neighbour) and stranger.poll() is None
    finally:
        stranger.kill()


def test_a_temporary_server_lives_as_long_as_its_block_even_when_that_fails(start: Start, tmp_path: Path) -> None:
    with pytest.raises(KeyError), temporary_slot(tmp_path, manifest(), served_name="m", log=tmp_path / "eval.log", timeout_seconds=30) as base_url:
        assert httpx.get(f"{base_url}/health").status_code == 200
        peak = peak_memory_bytes(tmp_path / "eval.log")
        assert peak is not None and peak > 2 * 1024**2, "the server and its helper: two processes of megabytes"
        raise KeyError
    assert peak_memory_bytes(tmp_path / "eval.log") is None, "a server that is gone is not measured"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/health")


def test_a_temporary_server_that_a_killed_command_left_behind_is_ended_by_the_next(start: Start, tmp_path: Path) -> None:
    release, log = tmp_path, tmp_path / "eval.log"
    killed = temporary_slot(release, manifest(), served_name="m", log=log, timeout_seconds=30)
    left_behind = killed.__enter__()
    with temporary_slot(release, manifest(), served_name="m", log=log, timeout_seconds=30) as base_url:
        assert base_url != left_behind
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{left_behind}/health")
    killed.__exit__(None, None, None)


def test_sampling_adds_one_argument_and_the_way_to_our_middleware_and_nothing_when_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def arguments(sampled: bool) -> list[str]:
        return vllm_arguments(Path("/releases/demo"), manifest(), port=8101, served_name="assistant", sampled=sampled)

    assert arguments(True) == [*arguments(False), "--middleware", "infra.sampling.Sampler"] and "--middleware" not in arguments(False)
    monkeypatch.setenv("PYTHONPATH", "/before")
    found = sampling_environment({"share": 0.5})
    root, before = found["PYTHONPATH"].split(":")
    assert before == "/before" and (Path(root) / "infra" / "sampling.py").exists() and found["TUNEGATE_SAMPLING"] == '{"share": 0.5}'
    assert sampling_environment(None) == {}
