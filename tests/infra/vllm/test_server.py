"""The vLLM server of a slot, its life and its end: refused, healthy, dead, late, drained, killed, orphaned. A small
Python server stands in for vLLM."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from configs.errors import ExternalError, InputError
from infra.boot import ProcessId, boot_id, identify, is_taken
from infra.vllm import server
from infra.vllm.server import (
    SlotProcess,
    free_port,
    is_alive,
    log_tail,
    peak_memory_bytes,
    reap_orphan,
    recorded,
    start_slot,
    stop_slot,
    temporary_slot,
    wait_healthy,
)
from tests.support.slots import Start, manifest, server_of, start

__all__ = ["start"]
pytestmark = pytest.mark.unit


def group_of(slot: SlotProcess) -> list[psutil.Process]:
    return [server_of(slot), *server_of(slot).children(recursive=True)]


def ended(processes: list[psutil.Process]) -> bool:
    """Within five seconds, all of them. Nobody may be there to bury an orphan, so a zombie has ended too."""
    deadline = time.monotonic() + 5
    while lives := [
        process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]:
        if time.monotonic() > deadline:
            return not lives
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_refused_before_anything_starts(start: Start, tmp_path: Path, host: str) -> None:
    with socket.create_server((host, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ExternalError, match=f"port {port} of the slot is taken"):
            start_slot(tmp_path, manifest(), port=port, served_name="m", log=tmp_path / "slot.log")
    assert not (tmp_path / "slot.log").exists()


def test_without_a_serve_environment_the_command_that_makes_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(tmp_path / "python"))
    with pytest.raises(InputError, match=r"no serve environment\n  try: make setup"):
        start_slot(tmp_path, manifest(), port=free_port(), served_name="m", log=tmp_path / "slot.log")


def process_of(pid: int) -> ProcessId:
    found = identify(pid)
    assert found is not None
    return found


def test_a_zombie_is_not_alive_and_neither_is_a_process_that_is_gone() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    slot = SlotProcess(process_of(child.pid), 1, Path("log"))
    assert child.stdin is not None and is_alive(slot)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.pid_exists(child.pid) and not is_alive(slot)
    child.wait()
    assert not is_alive(slot)


def test_healthy_is_a_200_and_nothing_less(start: Start) -> None:
    asked = start().log.read_text().split("GET /health HTTP/1.1")[1:]
    assert [line.split()[1] for line in asked] == ["503", "503", "200"]


def test_a_server_that_dies_is_told_at_once_with_the_end_of_its_log(start: Start) -> None:
    slot, began = start("dies", healthy=False), time.monotonic()
    with pytest.raises(ExternalError, match="ended while starting") as caught:
        wait_healthy(slot, 60)
    assert time.monotonic() - began < 30
    assert "line 19\n  out of memory" in str(caught.value) and "line 5" not in str(caught.value)
    assert caught.value.hint == f"less {slot.log}"


def test_a_server_that_is_late_is_given_up(start: Start) -> None:
    with pytest.raises(ExternalError, match=r"not healthy in 0\.6 s"):
        wait_healthy(start("mute", healthy=False), 0.6)


def test_how_long_a_start_took_is_counted_from_the_servers_own_and_only_where_it_was_seen(start: Start) -> None:
    """The command that started it may have been killed meanwhile; one that has long been healthy says nothing."""
    slot, began = start(healthy=False), time.monotonic()
    time.sleep(0.5)
    seconds = wait_healthy(slot, 60)
    assert seconds is not None and 0.5 <= seconds <= time.monotonic() - began + 1
    assert wait_healthy(slot, 60) is None


def test_a_temporary_servers_start_is_known_to_the_next_and_decides_how_long_it_may_take(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_CACHE_HOME", str(tmp_path / "cache"))
    waited: list[tuple[float, float]] = []
    real = server.wait_healthy

    def wait_healthy(slot: SlotProcess, timeout_seconds: float, usual_seconds: float) -> float | None:
        waited.append((timeout_seconds, usual_seconds))
        found = real(slot, 60)
        assert found is not None
        return found + 1000

    monkeypatch.setattr(server, "wait_healthy", wait_healthy)
    for stated in (None, None, 50):
        with temporary_slot(tmp_path, manifest(), served_name="m", log=tmp_path / "eval.log", timeout_seconds=stated):
            pass
    (first, usual), (second, known), (third, _) = waited
    assert 300 <= first < 301 and usual == server.USUAL_START_SECONDS
    assert known > 1000 and second == pytest.approx(3 * known) and third == 50


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
        found = process_of(stranger.pid)
        for other in (found._replace(ticks=found.ticks - 1), found._replace(boot="another")):
            stop_slot(SlotProcess(other, 1, Path("log"), "somebody"), drain_seconds=0)
        assert stranger.poll() is None
    finally:
        stranger.kill()


def test_a_server_survives_any_step_of_the_wall_clock(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    slot, booted, clock = start(), psutil.boot_time(), time.time
    for seconds in (-3600.0, -1.2, 1.2, 3600.0):
        monkeypatch.setattr(psutil, "boot_time", lambda by=seconds: booted + by)
        monkeypatch.setattr(time, "time", lambda by=seconds: clock() + by)
        assert is_alive(slot) and not is_taken(slot.process)


def test_a_server_of_an_earlier_versions_record_is_known_by_what_it_was_started_with(start: Start) -> None:
    slot = start()
    assert recorded(slot.pid, slot.port) == slot.process
    for pid, port in ((slot.pid, slot.port + 1), (os.getpid(), slot.port), (2**22 + 1, slot.port)):
        assert not is_alive(SlotProcess(recorded(pid, port), port, slot.log))


def test_a_group_of_the_same_number_is_left_alone_where_its_first_process_is_gone_and_it_is_not_ours() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    helper = psutil.Process(int(leader.stdout.readline()))
    gone = ProcessId(leader.pid, boot_id(), 1)
    leader.wait()
    try:
        stop_slot(SlotProcess(gone, 1, Path("log"), "somebody"), drain_seconds=0)
        assert helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE
    finally:
        helper.kill()


def test_an_orphan_on_the_port_is_ended_by_its_owner_and_nobody_else(start: Start) -> None:
    orphan, neighbour = start(), start()
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)", "--port", str(orphan.port)])
    try:
        group = group_of(orphan)
        reap_orphan(orphan.port, "another environment")
        reap_orphan(orphan.port, neighbour.owner)
        assert is_alive(orphan), "whoever else has this port in its YAML"
        reap_orphan(orphan.port, orphan.owner)
        assert ended(group) and is_alive(neighbour) and stranger.poll() is None
    finally:
        stranger.kill()


def test_a_temporary_server_lives_as_long_as_its_block_even_when_that_fails(start: Start, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        temporary_slot(
            tmp_path, manifest(), served_name="m", log=tmp_path / "eval.log", timeout_seconds=30
        ) as base_url,
    ):
        assert httpx.get(f"{base_url}/health").status_code == 200
        peak = peak_memory_bytes(tmp_path / "eval.log")
        assert peak is not None and peak > 2 * 1024**2, "the server and its helper: two processes of megabytes"
        raise KeyError
    assert peak_memory_bytes(tmp_path / "eval.log") is None, "a server that is gone is not measured"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/health")


def test_a_temporary_server_that_a_killed_command_left_behind_is_ended_by_the_next(
    start: Start, tmp_path: Path
) -> None:
    release, log = tmp_path, tmp_path / "eval.log"
    killed = temporary_slot(release, manifest(), served_name="m", log=log, timeout_seconds=30)
    left_behind = killed.__enter__()
    with temporary_slot(release, manifest(), served_name="m", log=log, timeout_seconds=30) as base_url:
        assert base_url != left_behind
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{left_behind}/health")
    killed.__exit__(None, None, None)
