"""All router pods of an environment as one: what `serve` sees where its servers are pods. Each is told, each must
confirm, and their counts are summed."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError
from configs.slots import SLOTS, SlotName
from infra.boot import Moment
from infra.files.atomic import read_json, write_private
from infra.haproxy.api_keys import Keyring
from infra.haproxy.lost import MOST_NAMED, LostRequests
from infra.haproxy.runtime_api import Admin, read_map_file
from infra.haproxy.servers import Servers, Traffic, release_entries
from infra.haproxy.shared_process import in_url
from infra.kubernetes.pods import Pod
from infra.router_pods.calls import Answers, ask_each, cluster_of, is_silent, router_pods
from infra.router_pods.counts import KeptCounts, folded, no_counts, total, traffic_in
from infra.router_pods.maps import STANDBYS, Maps, maps_in_files
from infra.router_pods.tell import tell_each
from infra.router_pods.told import read_told, told_object
from infra.state.folder import state_folder

START_SECONDS = 180
COUNTS = "routers.json"
PUBLISHED_SECONDS = 30.0  # after that, a hand may have changed it
PUBLISHED: dict[str, tuple[Maps, float]] = {}


@dataclass(frozen=True)
class Routers:
    """What they are to be told lies in `folder`, as the maps of a router of this machine do."""

    config: DeployConfig

    @property
    def folder(self) -> Path:
        return state_folder(self.config) / "router"

    @property
    def admin(self) -> Admin:
        """Of the files alone: no HAProxy runs there."""
        return Admin(self.folder, hint=f"tunegate deploy {self.config.name}")

    @property
    def servers(self) -> Servers:
        return Servers.of(self.admin, self.config)

    @property
    def health_path(self) -> str:
        return "/health"

    def pods(self, *, fresh: bool = False) -> list[Pod]:
        return router_pods(self.config, fresh=fresh)

    def ready(self) -> list[Pod]:
        """Those that get requests, and so count."""
        return [pod for pod in self.pods() if pod.ready and not pod.ending]

    @property
    def base_urls(self) -> list[str]:
        """Of each, for requests of our own."""
        router = self.config.router
        port = router.tls.local_port if router.tls else router.port
        return [f"http://{in_url(pod.address)}:{port}" for pod in self.ready()]

    @property
    def base_url(self) -> str:
        """One of them. Raises ExternalError where none is there."""
        urls = self.base_urls
        if not urls:
            raise ExternalError(f"{self.config.name}: no router pod is ready", hint=cluster_of(self.config).hint)
        return urls[0]

    @property
    def public_url(self) -> str:
        """The Service's, as the cluster knows it."""
        router, cluster = self.config.router, cluster_of(self.config)
        scheme = "https" if router.tls else "http"
        return f"{scheme}://{self.config.name}-router.{cluster.namespace}.svc:{router.port}"

    def is_running(self) -> bool:
        return bool(self.ready())

    def start(self, api_key: str) -> None:
        """Their Deployment was applied; until one of them is ready. Raises ExternalError."""
        Keyring(self.config).set_default(api_key)
        deadline = time.monotonic() + START_SECONDS
        self.publish(silently=False)
        while True:
            self.tell(maps_in_files(self.admin, self.servers))
            if self.is_running():
                return
            if time.monotonic() > deadline:
                raise ExternalError(
                    f"{self.config.name}: no router pod became ready in {START_SECONDS} s",
                    hint=cluster_of(self.config).hint,
                )
            time.sleep(0.5)

    def reload(self) -> list[str]:
        """Each router looks at its own files every half a minute."""
        return []

    def stop(self, drain_seconds: float) -> None:
        """No new request gets a server; open streams get `drain_seconds`. The pods are who made them to end."""
        self.admin.write_map("traffic.map", {})
        self.tell({"traffic.map": {}})
        self.publish()
        deadline = time.monotonic() + drain_seconds
        while any(map(self.open_streams, SLOTS)) and time.monotonic() < deadline:
            time.sleep(0.2)

    def weights(self) -> dict[SlotName, int]:
        """As every ready router says. Where they differ, what one says that was not told so: who knows better tells
        all of them again. One that is silent says nothing."""
        said = [weights_in(maps.get("traffic.map", {})) for maps in self.look().said.values()]
        told = weights_in(read_map_file(self.folder / "traffic.map"))
        return next((weights for weights in said if weights != told), told if said else weights_in({}))

    def differing(self) -> list[str]:
        """Routers that say something else than they were told, by name."""
        told, names = maps_in_files(self.admin, self.servers), {pod.uid: pod.name for pod in self.pods()}
        said = self.look().said.items()
        return [names.get(uid, uid) for uid, maps in said if any(maps.get(name) != told[name] for name in told)]

    def set_weights(self, weights: Mapping[SlotName, int]) -> dict[str, float]:
        """Returns how many milliseconds each ready router took, by its pod's name. Raises InputError where the weights
        are not whole percents that sum to 100, ExternalError where one of them does not confirm."""
        if sum(weights.values()) != 100 or min(weights.values()) < 0 or not set(weights) <= set(SLOTS):
            raise InputError(
                f"weights {dict(weights)}: expected percents of blue and green that sum to 100",
                hint=f"tunegate status {self.config.name}",
            )
        return self.set_entries("traffic.map", {"green": str(weights.get("green", 0))})

    def active(self) -> SlotName | None:
        weights = self.weights()
        if not any(weights.values()):
            return None
        return "green" if weights["green"] > weights["blue"] else "blue"

    def switch(self, slot: SlotName) -> dict[str, float]:
        return self.set_weights({slot: 100})

    def pause(self) -> None:
        self.set_entries("traffic.map", {"paused": "1"})

    def resume(self) -> None:
        self.set_entries("traffic.map", {"paused": "0"})

    def is_paused(self) -> bool:
        return any(maps.get("traffic.map", {}).get("paused") == "1" for maps in self.look().said.values())

    def set_release(self, slot: SlotName, digest: str, created: int = 0) -> None:
        """From here on the slot's servers are the pods of this release."""
        self.set_entries("releases.map", release_entries(slot, digest, created))

    def spent(self) -> dict[str, str]:
        return read_map_file(self.folder / "spent.map")

    def set_spent(self, periods: dict[str, str]) -> None:
        self.admin.write_map("spent.map", periods)
        self.tell({"spent.map": periods})
        self.publish()

    def standbys(self) -> set[SlotName]:
        return self.servers.standbys()

    def set_standbys(self, slots: Collection[SlotName]) -> None:
        with self.admin.changing():
            write_private(self.servers.standby_file, " ".join(sorted(slots)))
        self.tell({STANDBYS: dict.fromkeys(sorted(slots), "yes")})
        self.publish()

    def missing_servers(self) -> list[str]:
        """None: each router makes room for its pods by itself."""
        return []

    def heal_servers(self) -> bool:
        """Each router looks at its own once a second."""
        return False

    def self_heal(self, wanted: Mapping[str, dict[str, str]]) -> list[str]:
        """By map: entries that must be there. Of every router, and of what a new one is told, the maps that were not so
        are put right: API keys and budgets too, which somebody may have changed meanwhile."""
        files = [name for name in wanted if name != "servers.map"]  # pods are found by their labels
        for name in files:
            if read_map_file(self.folder / name) != wanted[name]:
                self.admin.write_map(name, wanted[name])
        told, said = maps_in_files(self.admin, self.servers), self.look().said.values()
        changed = [name for name in told if any(maps.get(name) != told[name] for maps in said)]
        if changed:
            self.tell({name: told[name] for name in changed})
        self.publish(silently=False)
        return changed

    def traffic(self) -> dict[SlotName, Traffic]:
        return traffic_in(total(self.counts()))

    def open_streams(self, slot: SlotName) -> int:
        counts = total(self.counts())
        return traffic_in(counts)[slot].open + counts["uncounted"]

    def load(self) -> dict[SlotName, int]:
        """Requests that a slot answers now, or that wait for a pod of it."""
        counts = total(self.counts())
        return {slot: one.open + counts["held"].get(slot, 0) for slot, one in traffic_in(counts).items()}

    def uncounted(self) -> int:
        return total(self.counts())["uncounted"]

    def unanswered(self) -> int:
        return total(self.counts())["unanswered"]

    def lost(self, since: Moment, until: Moment) -> LostRequests:
        """As the routers that are there know."""
        said = ask_each(self.awake(), "POST", "/lost", [since, until]).said.values()
        named = sorted((one for lost in said for one in lost["named"]), key=lambda one: str(one["at"]))
        return {"named": named[:MOST_NAMED], "more": len(named[MOST_NAMED:]) + sum(lost["more"] for lost in said)}

    def counts(self) -> KeptCounts:
        """Of every router there is and was."""
        pods = self.pods()
        seen = ask_each(self.awake(), "GET", "/counts").said.values()
        with self.keeping() as kept:
            found = folded(kept, seen, {pod.uid for pod in pods})
            if found != kept:
                write_private(self.folder / COUNTS, json.dumps(found))
        return found

    @contextmanager
    def keeping(self) -> Iterator[KeptCounts]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "routers.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found: Any = read_json(self.folder / COUNTS)
            yield found or no_counts()

    def awake(self) -> list[Pod]:
        """Who is asked, the ending ones too."""
        return [pod for pod in self.pods() if not is_silent(pod)]

    def look(self) -> Answers:
        """What every ready router says of its maps. One that ends is asked for its last counts."""
        if any(pod.ending for pod in self.pods()):
            self.counts()
        found = ask_each([pod for pod in self.ready() if not is_silent(pod)], "GET", "/maps")
        if not found.said and self.ready():
            raise next(
                iter(found.errors.values()), ExternalError("no router answers", hint=cluster_of(self.config).hint)
            )
        return found

    def set_entries(self, name: str, entries: dict[str, str]) -> dict[str, float]:
        self.admin.set_entries(name, entries)
        spent = self.tell({name: read_map_file(self.folder / name)})
        self.publish()
        return spent

    def tell(self, maps: Maps) -> dict[str, float]:
        return tell_each(self.pods, maps)

    def publish(self, *, silently: bool = True) -> None:
        """For routers to come. While the API server is silent none comes, and the next turn tries again: so what was
        done for those that are is no failure, where `silently`. Raises ExternalError."""
        maps, key, now = maps_in_files(self.admin, self.servers), str(self.folder), time.monotonic()
        known, at = PUBLISHED.get(key, (None, now))
        if known == maps and now - at < PUBLISHED_SECONDS:
            return
        try:
            if read_told(cluster_of(self.config), self.config) != maps:
                cluster_of(self.config).apply(told_object(self.config, maps))
        except ExternalError:
            if not silently:
                raise
        else:
            PUBLISHED[key] = maps, now


def weights_in(traffic: Mapping[str, str]) -> dict[SlotName, int]:
    green = traffic.get("green")
    return {"blue": 0, "green": 0} if green is None else {"blue": 100 - int(green), "green": int(green)}
