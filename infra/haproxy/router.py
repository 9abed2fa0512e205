"""The seam to HAProxy: the router that faces the network, in front of two slots. Traffic moves by its runtime API;
nothing restarts to switch."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError
from configs.slots import SLOTS, SlotName
from infra.boot import Moment
from infra.haproxy.lost import LostRequests, read_lost
from infra.haproxy.replaced import ReplacedProcesses
from infra.haproxy.runtime_api import Admin, read_map_file
from infra.haproxy.servers import LOOPBACK, Servers, Traffic, release_entries, server_entry
from infra.haproxy.shared_process import SharedProcess


@dataclass(frozen=True)
class Router:
    """One environment's, or its part of another one's."""

    config: DeployConfig

    @property
    def process(self) -> SharedProcess:
        return SharedProcess(self.config)

    @property
    def suffix(self) -> str:
        return self.process.suffix

    @property
    def folder(self) -> Path:
        return self.process.folder

    @property
    def base_url(self) -> str:
        return self.process.base_url

    @property
    def base_urls(self) -> list[str]:
        """Of each router that its users may meet."""
        return [self.base_url]

    @property
    def public_url(self) -> str:
        return self.process.public_url

    @property
    def servers(self) -> Servers:
        return self.process.servers

    @property
    def replaced(self) -> ReplacedProcesses:
        return self.process.replaced

    @property
    def admin(self) -> Admin:
        return self.process.admin

    @property
    def health_path(self) -> str:
        """Answered by the slot that this environment's users get."""
        return f"/health/{self.config.name}" if self.process.is_shared else "/health"

    def is_running(self) -> bool:
        return self.process.is_running()

    def start(self, api_key: str) -> None:
        self.process.start(api_key)

    def reload(self) -> list[str]:
        return self.process.reload()

    def stop(self, drain_seconds: float) -> None:
        self.process.stop(drain_seconds)

    def pid(self) -> int | None:
        return self.process.pid()

    def weights(self) -> dict[SlotName, int]:
        """Percent of the users whose new requests go to each slot, as HAProxy itself says; both 0 while nothing is
        deployed."""
        green = self.admin.read_map("traffic.map").get(f"green{self.suffix}")
        return {"blue": 0, "green": 0} if green is None else {"blue": 100 - int(green), "green": int(green)}

    def set_weights(self, weights: Mapping[SlotName, int]) -> None:
        """For new requests; open streams stay where they are. Idempotent. One number on both sides, so no moment has
        two truths.

        A user is green while its bucket is below green's weight: raising that moves users from blue to green only.
        Raises InputError where the weights are not whole percents that sum to 100, ExternalError if HAProxy does not
        confirm.
        """
        if sum(weights.values()) != 100 or min(weights.values()) < 0 or not set(weights) <= set(SLOTS):
            raise InputError(
                f"weights {dict(weights)}: expected percents of blue and green that sum to 100",
                hint=f"tunegate status {self.config.name}",
            )
        wished: dict[SlotName, int] = {slot: weights.get(slot, 0) for slot in SLOTS}
        for slot in SLOTS:
            if wished[slot]:
                self.servers.mark_up(slot)
        self.admin.set_entries("traffic.map", {f"green{self.suffix}": str(wished["green"])})
        if self.weights() != wished:
            raise ExternalError(
                f"HAProxy did not take the weights {wished}", hint=f"tunegate status {self.config.name}"
            )

    def active(self) -> SlotName | None:
        """The slot that has all users or the most of them."""
        weights = self.weights()
        if not any(weights.values()):
            return None
        return "green" if weights["green"] > weights["blue"] else "blue"

    def switch(self, slot: SlotName) -> dict[str, float]:
        """All new requests go to `slot`; open streams stay where they are. Idempotent. Of several routers: how many
        milliseconds each took."""
        self.set_weights({slot: 100})
        return {}

    def pause(self) -> None:
        """New requests wait in the router, at most `router.queue_seconds`, until `resume`; open streams go on."""
        self.admin.set_entries("traffic.map", {f"paused{self.suffix}": "1"})

    def resume(self) -> None:
        self.admin.set_entries("traffic.map", {f"paused{self.suffix}": "0"})

    def is_paused(self) -> bool:
        return self.admin.read_map("traffic.map").get(f"paused{self.suffix}") == "1"

    def self_heal(self, wanted: Mapping[str, dict[str, str]]) -> list[str]:
        """By map: entries that must be there, once, in the running process and in the file that a restart reads, named
        without the suffix. The maps that were not so, put right; what is another environment's stays."""
        suffixed = {name: {key + self.suffix: one for key, one in rows.items()} for name, rows in wanted.items()}
        changed = [name for name, entries in suffixed.items() if not self.holds(name, entries)]
        for name in changed:
            with self.admin.changing():
                before = read_map_file(self.folder / name).items()
                others = {key: one for key, one in before if not self.process.owns(key)}
                self.admin.write_changed(name, others | suffixed[name])
        return changed

    def holds(self, name: str, entries: dict[str, str]) -> bool:
        rows, unset = self.admin.read_rows(name), {f"paused{self.suffix}": "0"}  # as long as nobody ever paused
        copies = (dict(rows), read_map_file(self.folder / name))
        return len(dict(rows)) == len(rows) and all(entries.items() <= (unset | copy).items() for copy in copies)

    def set_release(self, slot: SlotName, digest: str, created: int = 0) -> None:
        """The digest that this slot's answers carry in x-tunegate-release. `created` is said by /v1/models: when the
        release was made, in seconds since 1970, 0 where nobody knows."""
        self.admin.set_entries("releases.map", release_entries(slot, digest, created, self.suffix))

    def set_server(self, slot: SlotName, port: int, prefix: str = "") -> None:
        """Where the slot's requests go, while none does: another port than its own, and a prefix to their paths, where
        it lives in the other's server."""
        self.admin.set_entries("servers.map", {slot + self.suffix: server_entry(port, prefix)})
        self.servers.move(slot, f"{LOOPBACK}:{port}")

    def spent(self) -> dict[str, str]:
        return read_map_file(self.folder / "spent.map")

    def set_spent(self, periods: dict[str, str]) -> None:
        """By the name of a key: the day or month (UTC) for which it is refused, its budget being spent."""
        self.admin.write_map("spent.map", periods)

    def heal_servers(self) -> bool:
        """Whether the running process had other servers or standbys than were last set; they are put right."""
        return self.servers.heal()

    def missing_servers(self) -> list[str]:
        return self.servers.missing()

    def standbys(self) -> set[SlotName]:
        return self.servers.standbys()

    def set_standbys(self, slots: Collection[SlotName]) -> None:
        """The slots that HAProxy itself turns to while the other one's server is down."""
        self.servers.set_standbys(slots)

    def traffic(self) -> dict[SlotName, Traffic]:
        """The streams ledger, by slot."""
        return self.servers.traffic()

    def open_streams(self, slot: SlotName) -> int:
        """On the slot, in replaced processes too. One that nobody counts has at least one stream, on whichever slot."""
        return self.servers.open_streams(slot) + self.uncounted()

    def load(self) -> dict[SlotName, int]:
        """Requests that a slot answers now, or that wait for a server of it."""
        held = self.servers.held()
        return {slot: one.open + held[slot] for slot, one in self.traffic().items()}

    def uncounted(self) -> int:
        """Replaced processes whose streams are in no count: an earlier tunegate's reload began them."""
        return len(self.replaced.uncounted(self.pid()))

    def lost(self, since: Moment, until: Moment) -> LostRequests:
        """The requests whose clients stayed and got no whole answer."""
        return read_lost(self.folder, since, until, self.config.name)

    def unanswered(self) -> int:
        """What no slot answered: a 5xx of the router's own."""
        return self.servers.unanswered(is_shared=self.process.is_shared)


def bucket_of(user: str) -> int:
    """0 to 99, as the router computes it: a key's name, or what the client sent as x-tunegate-sticky. Green's are those
    below its weight."""
    return zlib.crc32(user.encode()) % 100
