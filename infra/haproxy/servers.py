"""The model servers behind HAProxy: where each is, which may stand in for another, and what each was asked.

Every slot's backend knows the other slot's server as its backup: HAProxy itself sends it requests while the slot's own
server is down, whoever else is dead, if it was named a standby.

Processes of this machine have each a port of their own. Pods come and go: a slot has room for so many servers, which
lead nowhere until one is given a pod (infra/router_pod/assign.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError
from configs.slots import SLOTS, SlotName, other
from infra.files.atomic import read_json, write_private
from infra.haproxy.counts import Counts
from infra.haproxy.replaced import ReplacedProcesses, summed
from infra.haproxy.runtime_api import Admin, read_map_file

IN_MAINTENANCE, DRAINING = 0x01, 0x08  # SRV_ADMF_FMAINT and SRV_ADMF_FDRAIN, of srv_admin_state
LOOPBACK = "127.0.0.1"
NOWHERE = f"{LOOPBACK}:1"  # of a server that has no pod: it is in maintenance, so nobody is sent there
PODS = "pods.json"


@dataclass(frozen=True)
class Traffic:
    """HAProxy's own count of one slot's requests since the router started, over its reloads; `open` is now."""

    open: int
    total: int
    failed: int
    cut_by_server: int
    left_by_client: int


class ServerState(NamedTuple):
    """`place`: ADDRESS:PORT. By a command, not by what it tracks: `is_out` (maintenance), `is_draining` (what is open
    goes on, nothing new comes)."""

    place: str
    is_out: bool = False
    is_draining: bool = False


@dataclass(frozen=True)
class Servers:
    """`places`: ADDRESS:PORT of each slot's servers; that of its first one as long as servers.map says nothing else.
    `suffix`: what tells an environment behind another one's router from that one (infra/haproxy/members.py)."""

    admin: Admin
    places: Mapping[SlotName, Sequence[str]]
    suffix: str = ""
    are_pods: bool = False

    @classmethod
    def of(cls, admin: Admin, config: DeployConfig, suffix: str = "") -> Servers:
        """A config's own."""
        if isinstance(config.placement, Kubernetes):
            return cls(admin, {slot: [NOWHERE] * room_of(config.placement) for slot in SLOTS}, suffix, are_pods=True)
        return cls(admin, {slot: local_places(config.ports_of(slot)) for slot in SLOTS}, suffix)

    def place(self, slot: SlotName) -> str:
        """Of the slot's first server."""
        said = read_map_file(self.admin.folder / "servers.map").get(slot + self.suffix, "").partition("|")[0]
        return f"{LOOPBACK}:{said}" if said.isdigit() else said or self.places[slot][0]

    def backend(self, slot: SlotName) -> str:
        return slot + self.suffix

    def names(self, slot: SlotName) -> list[str]:
        return server_names(self.backend(slot), len(self.places[slot]))

    def environment(self) -> dict[str, str]:
        """What HAProxy's configuration leaves open: a process that starts now begins with what is so now."""
        standbys = self.standbys()
        found = {
            variable(slot, self.suffix, "STANDBY"): "enabled" if slot in standbys else "disabled" for slot in SLOTS
        }
        if self.are_pods:
            return found | self.pods_environment()
        return found | {variable(slot, self.suffix, "PORT"): self.place(slot).rpartition(":")[2] for slot in SLOTS}

    def pods_environment(self) -> dict[str, str]:
        """As they were last assigned, by a file: HAProxy may have died, and its state with it."""
        found: dict[str, str] = {}
        for name, place in (read_json(self.admin.folder / PODS) or {}).items():
            found |= {pod_variable(name, "PLACE"): place, pod_variable(name, "STATE"): "enabled"}
        return found

    def move(self, slot: SlotName, place: str) -> None:
        """Raises ExternalError if HAProxy does not confirm."""
        with self.admin.changing():
            self.admin.ask_all(set_place(self.backend(backend), self.backend(slot), place) for backend in SLOTS)
        found = self.states().get((self.backend(slot), self.backend(slot)))
        if found is None or found.place != place:
            raise ExternalError(f"HAProxy did not take {place} for {slot}", hint=self.admin.hint)

    def missing(self) -> list[str]:
        """Servers that the running process does not know: it was started when a slot had fewer."""
        seen = self.states()
        return [name for slot in SLOTS for name in self.names(slot) if (self.backend(slot), name) not in seen]

    def mark_up(self, slot: SlotName) -> None:
        """Whoever gives it traffic has seen it answer: HAProxy's own next look may be a quarter of a second away. Of
        pods nobody has seen each."""
        if not self.are_pods:
            self.admin.ask_all(f"set server {self.backend(slot)}/{name} health up" for name in self.names(slot))

    @property
    def standby_file(self) -> Path:
        return self.admin.folder / f"standbys{self.suffix}"

    def standbys(self) -> set[SlotName]:
        """As they were last set."""
        words = self.standby_file.read_text(encoding="utf8").split() if self.standby_file.exists() else []
        return {slot for slot in SLOTS if slot in words}

    def set_standbys(self, slots: Collection[SlotName]) -> None:
        """The slots that answer in the place of the other one while that one's server is down. Open streams stay where
        they are."""
        with self.admin.changing():
            write_private(self.standby_file, " ".join(sorted(slots)))
            for slot in SLOTS:
                state = "ready" if slot in slots else "maint"
                self.admin.ask_all(
                    f"set server {self.backend(other(slot))}/{name} state {state}" for name in self.names(slot)
                )

    def heal(self) -> bool:
        """Whether the running process differed from what was last set, by hand or by a lost word; it is put right."""
        standbys, seen = self.standbys(), self.states()
        wanted = {
            (self.backend(backend), name): ServerState(place, backend != slot and slot not in standbys)
            for backend in SLOTS
            for slot in SLOTS
            for name, place in zip(self.names(slot), (self.place(slot), *self.places[slot][1:]), strict=True)
        }
        if seen == wanted:
            return False
        self.admin.ask_all(set_place(backend, name, one.place) for (backend, name), one in wanted.items())
        self.admin.ask_all(
            f"set server {backend}/{name} state ready" for backend, name in wanted if name.startswith(backend)
        )
        self.set_standbys(standbys)
        return True

    def states(self) -> dict[tuple[str, str], ServerState]:
        """By backend and server."""
        _, header, *lines = self.admin.ask("show servers state").splitlines()
        names = header.removeprefix("# ").split()
        columns = ("be_name", "srv_name", "srv_addr", "srv_port", "srv_admin_state")
        backend, name, address, port, admin = map(names.index, columns)
        ours = {*map(self.backend, SLOTS)}
        rows = (line.split() for line in lines if line)
        return {
            (row[backend], row[name]): ServerState(
                f"{row[address]}:{row[port]}", bool(int(row[admin]) & IN_MAINTENANCE), bool(int(row[admin]) & DRAINING)
            )
            for row in rows
            if row[backend] in ours
        }

    def traffic(self, rows: Counts | None = None) -> dict[SlotName, Traffic]:
        """What each slot's server was asked, in its own place or in the other's."""
        sums = self.sums_of(self.rows() if rows is None else rows)
        return {slot: read_traffic(sums[slot]) for slot in SLOTS}

    def unanswered(self, rows: Counts | None = None, *, is_shared: bool = False) -> int:
        """Requests that got a 5xx of the router's own, since it started: no server was there, or it waited too long.
        Behind a router that is shared, of those that were meant for this environment: not what waited too long."""
        rows = self.rows() if rows is None else rows
        asked = sum(rows.get(f"{self.backend(slot)}/BACKEND", {}).get("hrsp_5xx", 0) for slot in SLOTS)
        if not is_shared:
            asked = rows.get("router/FRONTEND", {}).get("hrsp_5xx", 0)
        sums = self.sums_of(rows)
        return max(0, asked - sum(sums[slot]["hrsp_5xx"] for slot in SLOTS))

    def held(self, rows: Counts | None = None) -> dict[SlotName, int]:
        """Requests that wait for a server of the slot."""
        rows = self.rows() if rows is None else rows
        found: dict[SlotName, int] = {}
        for slot in SLOTS:
            inside = {name: row["scur"] for name, row in rows.items() if name.startswith(f"{self.backend(slot)}/")}
            found[slot] = max(0, 2 * inside.get(f"{self.backend(slot)}/BACKEND", 0) - sum(inside.values()))
        return found

    def open_streams(self, slot: SlotName) -> int:
        """Of a closed router too: streams of processes that it replaced may outlive the last one."""
        return self.sums_of(self.rows() if self.admin.is_running() else self.replaced.counts(0))[slot]["scur"]

    def sums_of(self, rows: Counts) -> dict[SlotName, Counter[str]]:
        """By slot, whichever backend its servers answered in."""
        sums: dict[SlotName, Counter[str]] = {slot: Counter() for slot in SLOTS}
        backends = {self.backend(slot): slot for slot in SLOTS}
        for name, row in rows.items():
            backend, _, server = name.partition("/")
            owner = next((slot for one, slot in backends.items() if is_server_of(server, one)), None)
            if backend in backends and owner:
                sums[owner].update(row)
        return sums

    @property
    def replaced(self) -> ReplacedProcesses:
        return ReplacedProcesses(self.admin.folder)

    def rows(self) -> Counts:
        """HAProxy's own counters, with those of the processes that a reload replaced."""
        pid, counts = self.admin.counts()
        return summed([counts, self.replaced.counts(pid)])


def is_server_of(server: str, backend: str) -> bool:
    """By its name, also of a slot that had more servers once."""
    first, _, number = server.rpartition("-")
    return server == backend or (first == backend and number.isdigit())


def server_names(backend: str, count: int) -> list[str]:
    """As HAProxy and its statistics have them: the first is named as its slot's backend."""
    return [backend, *(f"{backend}-{number + 1}" for number in range(1, count))]


def room_of(placement: Kubernetes) -> int:
    """Servers of a slot: for each of its pods, and for those that come before others have gone."""
    return placement.most + placement.most // 4 + 1


def local_places(ports: Sequence[int]) -> list[str]:
    return [f"{LOOPBACK}:{port}" for port in ports]


def set_place(backend: str, name: str, place: str) -> str:
    """The command. What is open stays where it is. The address of IPv6 has colons of its own."""
    address, _, port = place.rpartition(":")
    return f"set server {backend}/{name} addr {address} port {port}"


def pod_variable(name: str, what: str) -> str:
    """Of HAProxy's environment: of the server of this name."""
    return f"{name.upper().replace('-', '_')}_{what}"


def variable(slot: SlotName, suffix: str, what: str) -> str:
    """Of HAProxy's environment, whose names are of letters, digits and _."""
    own = f"_{suffix[1:].encode().hex().upper()}" if suffix else ""
    return f"{slot.upper()}{own}_{what}"


def server_entry(port: int, prefix: str) -> str:
    """As servers.map has it."""
    return f"{port}|{prefix}"


def release_entries(slot: SlotName, digest: str, created: int, suffix: str = "") -> dict[str, str]:
    """As releases.map has a slot's release. A router of an earlier tunegate reads the first entry only."""
    return {slot + suffix: digest, f"{slot}-created{suffix}": str(created)}


def read_traffic(row: Mapping[str, int]) -> Traffic:
    """What went on to another server was this one's only for a moment."""
    failed = row.get("hrsp_5xx", 0) + row.get("econ", 0) + row.get("eresp", 0)
    total = row.get("stot", 0) - row.get("wredis", 0)
    return Traffic(row.get("scur", 0), total, failed, row.get("srv_abrt", 0), row.get("cli_abrt", 0))
