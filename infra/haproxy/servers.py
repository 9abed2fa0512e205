"""The model servers behind HAProxy: where each is, which may stand in for another, and what each was asked.

Every slot's backend knows the other slot's server as its backup: HAProxy itself sends it requests while the slot's own
server is down, whoever else is dead, if it was named a standby.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ExternalError
from configs.slots import SLOTS, SlotName, other
from infra.files.atomic import write_private
from infra.haproxy.counts import Counts
from infra.haproxy.replaced import ReplacedProcesses, summed
from infra.haproxy.runtime_api import Admin, read_map_file

IN_MAINTENANCE = 0x01  # SRV_ADMF_FMAINT, of srv_admin_state


@dataclass(frozen=True)
class Traffic:
    """HAProxy's own count of one slot's requests since the router started, over its reloads; `open` is now."""

    open: int
    total: int
    failed: int
    cut_by_server: int
    left_by_client: int


@dataclass(frozen=True)
class Servers:
    """`ports`: of each slot's servers; that of its first one as long as servers.map says nothing else."""

    admin: Admin
    ports: Mapping[SlotName, Sequence[int]]

    def port(self, slot: SlotName) -> int:
        said = read_map_file(self.admin.folder / "servers.map").get(slot, "").partition("|")[0]
        return int(said) if said.isdigit() else self.ports[slot][0]

    def names(self, slot: SlotName) -> list[str]:
        return server_names(slot, len(self.ports[slot]))

    def environment(self) -> dict[str, str]:
        """What HAProxy's configuration leaves open: a process that starts now begins with what is so now."""
        standbys = self.standbys()
        return {f"{slot.upper()}_PORT": str(self.port(slot)) for slot in SLOTS} | {
            f"{slot.upper()}_STANDBY": "enabled" if slot in standbys else "disabled" for slot in SLOTS
        }

    def move(self, slot: SlotName, port: int) -> None:
        """Raises ExternalError if HAProxy does not confirm."""
        with self.admin.changing():
            for backend in SLOTS:
                self.admin.ask(f"set server {backend}/{slot} addr 127.0.0.1 port {port}")
        if self.states().get((slot, slot), (0, False))[0] != port:
            raise ExternalError(f"HAProxy did not take port {port} for {slot}", hint=self.admin.hint)

    def missing(self) -> list[str]:
        """Servers that the running process does not know: it was started when a slot had fewer."""
        seen = self.states()
        return [name for slot in SLOTS for name in self.names(slot) if (slot, name) not in seen]

    def mark_up(self, slot: SlotName) -> None:
        """Whoever gives it traffic has seen it answer: HAProxy's own next look may be a quarter of a second away."""
        for name in self.names(slot):
            self.admin.ask(f"set server {slot}/{name} health up")

    @property
    def standby_file(self) -> Path:
        return self.admin.folder / "standbys"

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
                for name in self.names(slot):
                    self.admin.ask(f"set server {other(slot)}/{name} state {'ready' if slot in slots else 'maint'}")

    def heal(self) -> bool:
        """Whether the running process differed from what was last set, by hand or by a lost word; it is put right."""
        standbys, seen = self.standbys(), self.states()
        wanted = {
            (backend, name): (port, backend != slot and slot not in standbys)
            for backend in SLOTS
            for slot in SLOTS
            for name, port in zip(self.names(slot), (self.port(slot), *self.ports[slot][1:]), strict=True)
        }
        if seen == wanted:
            return False
        for (backend, name), (port, _) in wanted.items():
            self.admin.ask(f"set server {backend}/{name} addr 127.0.0.1 port {port}")
            if name.startswith(backend):
                self.admin.ask(f"set server {backend}/{name} state ready")
        self.set_standbys(standbys)
        return True

    def states(self) -> dict[tuple[str, str], tuple[int, bool]]:
        """By backend and server: its port, and whether it is in maintenance."""
        _, header, *lines = self.admin.ask("show servers state").splitlines()
        names = header.removeprefix("# ").split()
        rows = [dict(zip(names, line.split(), strict=False)) for line in lines if line]
        return {
            (row["be_name"], row["srv_name"]): (
                int(row["srv_port"]),
                bool(int(row["srv_admin_state"]) & IN_MAINTENANCE),
            )
            for row in rows
            if row["be_name"] in SLOTS
        }

    def traffic(self) -> dict[SlotName, Traffic]:
        """What each slot's server was asked, in its own place or in the other's."""
        sums = sums_of(self.rows())
        return {slot: read_traffic(sums[slot]) for slot in SLOTS}

    def unanswered(self) -> int:
        """Requests that got a 5xx of the router's own, since it started: no server was there, or it waited too long."""
        sums = sums_of(self.rows())
        return max(0, sums["FRONTEND"]["hrsp_5xx"] - sum(sums[slot]["hrsp_5xx"] for slot in SLOTS))

    def open_streams(self, slot: SlotName) -> int:
        """Of a closed router too: streams of processes that it replaced may outlive the last one."""
        return sums_of(self.rows() if self.admin.is_running() else self.replaced.counts(0))[slot]["scur"]

    @property
    def replaced(self) -> ReplacedProcesses:
        return ReplacedProcesses(self.admin.folder)

    def rows(self) -> Counts:
        """HAProxy's own counters, with those of the processes that a reload replaced."""
        pid, counts = self.admin.counts()
        return summed([counts, self.replaced.counts(pid)])


def sums_of(rows: Counts) -> dict[str, Counter[str]]:
    """By server, whichever slot it answered for, and of all that came."""
    sums: dict[str, Counter[str]] = {name: Counter() for name in (*SLOTS, "FRONTEND")}
    for name, row in rows.items():
        proxy, _, server = name.partition("/")
        owner = server.partition("-")[0]
        if (proxy, owner) == ("router", "FRONTEND") or {proxy, owner} <= {*SLOTS}:
            sums[owner].update(row)
    return sums


def server_names(slot: SlotName, count: int) -> list[str]:
    """As HAProxy and its statistics have them: the first is named as its slot."""
    return [slot, *(f"{slot}-{number + 1}" for number in range(1, count))]


def server_entry(port: int, prefix: str) -> str:
    """As servers.map has it."""
    return f"{port}|{prefix}"


def release_entries(slot: SlotName, digest: str, created: int) -> dict[str, str]:
    """As releases.map has a slot's release. A router of an earlier tunegate reads the first entry only."""
    return {slot: digest, f"{slot}-created": str(created)}


def read_traffic(row: Mapping[str, int]) -> Traffic:
    """What went on to another server was this one's only for a moment."""
    failed = row.get("hrsp_5xx", 0) + row.get("econ", 0) + row.get("eresp", 0)
    total = row.get("stot", 0) - row.get("wredis", 0)
    return Traffic(row.get("scur", 0), total, failed, row.get("srv_abrt", 0), row.get("cli_abrt", 0))
