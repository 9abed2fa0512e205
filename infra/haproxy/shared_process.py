"""HAProxy's process of one router: its files, its start, what it reads anew, who is behind it, its end. What it is told
while it runs: infra/haproxy/router.py."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError, TunegateError
from configs.slots import SLOTS
from infra.boot import ProcessId, identify
from infra.files.atomic import read_json, write_private
from infra.haproxy.api_keys import Keyring
from infra.haproxy.config import TEMPLATE, keys_of, render
from infra.haproxy.members import Member, member_of, read_members, suffix_of, write_members
from infra.haproxy.openapi import documents
from infra.haproxy.process import check_haproxy, start_haproxy, stop_haproxy
from infra.haproxy.replaced import ReplacedProcesses
from infra.haproxy.runtime_api import Admin, read_map_file
from infra.haproxy.servers import Servers, local_places
from infra.haproxy.tls import differs, renew, tls_files
from infra.state.folder import state_folder

# Where this machine itself reaches what listens everywhere.
ANY_ADDRESS = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}
LUA = ("queue.lua", "cost.lua")
HOST = "host.json"
MAPS = ("traffic.map", "releases.map", "servers.map")  # by slot


@dataclass(frozen=True)
class SharedProcess:
    """As an environment sees it: its own, or that of another one whose router its model is behind (`router_of`). Its
    identity is its admin socket, so no pid is kept anywhere."""

    config: DeployConfig

    @property
    def host(self) -> DeployConfig:
        """The environment whose it is, as its own command opened the router: another one's checkout may have another
        copy of its YAML, and two copies would take turns."""
        opened = read_json(self.folder / HOST) if self.suffix else None
        return DeployConfig.model_validate(opened) if opened else self.config.host

    @property
    def suffix(self) -> str:
        return suffix_of(self.config)

    @property
    def folder(self) -> Path:
        return state_folder(self.config.host) / "router"

    @property
    def servers(self) -> Servers:
        return Servers.of(self.admin, self.config, self.suffix)

    @property
    def replaced(self) -> ReplacedProcesses:
        return ReplacedProcesses(self.folder)

    @property
    def admin(self) -> Admin:
        return Admin(self.folder, hint=f"tunegate deploy {self.config.name}")

    def is_running(self) -> bool:
        """Another one's is not this environment's before it knows its servers."""
        try:
            return self.admin.is_running() and not (self.suffix and self.servers.missing())
        except ExternalError:  # it has just ended
            return False

    @property
    def base_url(self) -> str:
        """For this machine's own requests: plain HTTP, whatever the network is shown."""
        router = self.host.router
        if router.tls:
            return f"http://127.0.0.1:{router.tls.local_port}"
        return f"http://{ANY_ADDRESS.get(router.host) or in_url(router.host)}:{router.port}"

    @property
    def public_url(self) -> str:
        router = self.host.router
        return f"{'https' if router.tls else 'http'}://{in_url(router.host)}:{router.port}"

    def start(self, api_key: str) -> None:
        """Starts the router, or joins the one that is shared; `api_key` is the key `default`. Raises ExternalError when
        HAProxy does not come up, InputError when one of other settings runs."""
        if not self.admin.is_running():
            Keyring(self.host).set_default(api_key)
        self.open()

    def open(self) -> None:
        """With the keys that are in its folder."""
        with self.admin.changing():
            self.join()
            text, path = self.render(), self.folder / "haproxy.cfg"
            if self.admin.is_running():
                before = path.read_text(encoding="utf8")
                if before == text:
                    self.keep_host()
                    return
                if not self.suffix:
                    raise InputError(
                        "the router's settings changed while it is open",
                        hint=f"tunegate router reload {self.config.name}",
                    )
                running = identify(self.pid() or 0)
                if running:
                    self.replace_process(running, text, before)
                    return
            self.touch_maps()
            self.write_secrets()
            write_private(path, text)
            self.replaced.begin_anew()
            start_haproxy(self.admin, self.public_url, self.config.router.access_log, self.environment())
            self.keep_host()

    def keep_host(self) -> None:
        if not self.suffix:
            write_private(self.folder / HOST, self.config.model_dump_json())

    def join(self) -> None:
        if self.suffix:
            write_members(self.folder, read_members(self.folder) | {self.config.name: member_of(self.config)})

    def leave(self) -> None:
        """The other environments behind the router go on; streams that are open here go to their end."""
        with self.admin.changing():
            members = read_members(self.folder)
            if members.pop(self.config.name, None) is None:
                return
            write_members(self.folder, members)
            for name in MAPS:
                entries = read_map_file(self.folder / name)
                self.admin.write_changed(name, {key: one for key, one in entries.items() if not self.owns(key)})
            running = identify(self.pid() or 0)
            text, before = self.render(), (self.folder / "haproxy.cfg").read_text(encoding="utf8")
            if running and text != before:
                self.replace_process(running, text, before)

    def owns(self, key: str) -> bool:
        """An entry of a map by slot: `green` or `green-created`, and the suffix."""
        return key.partition(".")[2] == self.suffix[1:]

    @property
    def is_shared(self) -> bool:
        return bool(self.suffix or self.members())

    def members(self) -> dict[str, Member]:
        return read_members(self.folder)

    def render(self) -> str:
        return render(self.host, self.members())

    def environment(self) -> dict[str, str]:
        """Of the HAProxy that starts now: of every environment behind it."""
        found = Servers.of(self.admin, self.host).environment()
        for name, member in self.members().items():
            places = {slot: local_places(ports) for slot, ports in member["ports"].items()}
            found |= Servers(self.admin, places, f".{name}").environment()
        return found

    def touch_maps(self) -> None:
        for name in (*MAPS, "keys.map", "spent.map"):
            (self.folder / name).touch()
        (self.folder / "empty").mkdir(exist_ok=True)
        for name in LUA:
            write_private(self.folder / name, TEMPLATE.with_name(name).read_text(encoding="utf8"))
        for name, text in documents(self.host, is_shared=self.is_shared).items():
            write_private(self.folder / name, text)

    def write_secrets(self) -> None:
        """The files of TLS and of tokens that the configuration names, as HAProxy wants them."""
        for name, text in tls_files(self.host).items():
            write_private(self.folder / name, text)
        for key in keys_of(self.host):
            write_private(self.folder / key.file, key.pem)

    def reload(self) -> list[str]:
        """Reads certificates, token keys and settings anew, and says what changed. Not one stream is dropped.

        Certificates change in the running process. For the rest a second process takes over the listening sockets, and
        the first ends with its last stream, which is counted on; what limits have counted is forgotten. Raises
        InputError for files that do not fit together, or while a swap holds requests, and changes nothing then.
        """
        with self.admin.changing():
            running = identify(self.pid() or 0)
            if running is None:
                raise InputError(
                    f"the router of {self.config.name} is not open", hint=f"tunegate deploy {self.config.name}"
                )
            self.join()
            text, before = self.render(), (self.folder / "haproxy.cfg").read_text(encoding="utf8")
            if before == text:
                files = {} if self.suffix else tls_files(self.host)
                return [name for name, pem in files.items() if renew(self.admin, name, pem)]
            return self.replace_process(running, text, before)

    def replace_process(self, running: ProcessId, text: str, before: str) -> list[str]:
        if any(value == "1" for key, value in self.admin.read_map("traffic.map").items() if key.startswith("paused")):
            raise InputError(
                f"{self.config.name}: a swap holds new requests in the running router, which would never let them go",
                hint=f"tunegate status {self.config.name}",
            )
        path, keeper = self.folder / "haproxy.cfg", None
        changed = []
        self.touch_maps()
        if not self.suffix:  # whose files they are; their paths are relative to the checkout
            changed = [name for name, pem in tls_files(self.host).items() if differs(self.folder / name, pem)]
            self.write_secrets()
        write_private(path, text)
        try:
            servers = self.environment()
            check_haproxy(path, servers)
            keeper = self.replaced.keep(running)
            takes_over = ("-x", "admin.sock", "-sf", str(running.pid))
            start_haproxy(self.admin, self.public_url, self.config.router.access_log, servers, *takes_over)
        except (TunegateError, OSError):
            write_private(path, before)
            if keeper:
                keeper.terminate()
            raise
        self.keep_host()
        return [*changed, "settings"]

    def stop(self, drain_seconds: float) -> None:
        """No new connections at once; open streams, those of replaced processes too, get `drain_seconds`. One that is
        shared goes on without this environment. Raises InputError while others are behind it."""
        if self.suffix:
            self.leave()
            self.wait_for_streams(drain_seconds)
            return
        others = ", ".join(self.members())
        if others and self.admin.is_running():
            raise InputError(
                f"{others}: behind the router of {self.config.name}, which they would lose",
                hint="; ".join(f"tunegate stop {name}" for name in self.members()),
            )
        pid = self.pid()
        stop_haproxy({*([pid] if pid else []), *self.replaced.alive(), *self.replaced.uncounted(pid)}, drain_seconds)
        (self.folder / HOST).unlink(missing_ok=True)

    def wait_for_streams(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(map(self.servers.open_streams, SLOTS)) and time.monotonic() < deadline:
            time.sleep(0.1)

    def pid(self) -> int | None:
        found = self.admin.facts().get("Pid")
        return int(found) if found else None


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
