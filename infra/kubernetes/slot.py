"""A slot that is a Deployment: applied whole, looked at, taken away. What is seen of it is a moment old and kept, so
that nobody waits for the API server, and nothing is taken for dead while that is not to be reached."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

from typing_extensions import TypedDict

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, UnreachableError
from configs.section import JsonObject
from configs.slots import SlotName
from infra.kubernetes.api import Cluster
from infra.kubernetes.labels import ENVIRONMENT, PART, labels_of
from infra.kubernetes.pod_faults import fault_of
from infra.kubernetes.pods import pod_of
from infra.kubernetes.probe import PORT
from infra.terminal import waiting

POLL_SECONDS = 0.5
OWNED = ("PodDisruptionBudget", "Service", "Deployment")


class PodsFacts(TypedDict):
    """Of a slot's Deployment, as its start is on record. `address`: of its Service, inside the cluster."""

    deployment: str
    uid: str
    address: str


@dataclass(frozen=True)
class SlotPods:
    """The pods of a slot. `name`: of its Deployment and Service; `uid`: of this very Deployment."""

    config: DeployConfig
    slot: SlotName
    name: str
    uid: str
    address: str
    port: int = PORT
    prefix: str = ""

    @property
    def base_url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def cluster(self) -> Cluster:
        return cluster_of(self.config)

    @property
    def hint(self) -> str:
        return f"kubectl -n {self.cluster.namespace} logs deployment/{self.name} --all-containers"

    def pods(self) -> list[JsonObject]:
        """Those that are there, the ending ones too."""
        found, _ = self.cluster.find("Pod", labels_of(self.config, "server", self.slot), cached=True)
        return [pod for pod in found if pod["metadata"]["name"].startswith(f"{self.name}-")]

    def urls(self) -> list[str]:
        """Of each pod that is ready."""
        pods = map(pod_of, self.pods())
        return [f"http://{pod.address}:{self.port}" for pod in pods if pod.address and pod.ready and not pod.ending]

    def is_alive(self) -> bool:
        """Whether the Deployment is there and a pod of it is ready, or is still to come for the first time. Raises
        UnreachableError where it is not known."""
        seen = self.seen()
        return seen is not None and seen.lives

    def seen(self) -> Seen | None:
        looker = looker_of(self.config)
        return looker.last().get(self.uid) or looker.look().get(self.uid)

    def count(self) -> tuple[int, int]:
        """Of its pods: how many there are to be, and how many are ready."""
        seen = self.seen()
        return (seen.wanted, seen.ready) if seen else (0, 0)


@dataclass(frozen=True)
class Seen:
    """A Deployment as it was last seen. `is_complete`: all its pods were ready once; `has_failed`: they did not become
    so in time (progressDeadlineSeconds)."""

    name: str
    wanted: int
    ready: int
    is_complete: bool
    has_failed: bool
    is_ending: bool

    @classmethod
    def of(cls, thing: JsonObject) -> Seen:
        status = thing.get("status", {})
        conditions = {one["type"]: one for one in status.get("conditions", [])}
        progress = conditions.get("Progressing", {})
        return cls(
            thing["metadata"]["name"],
            thing["spec"].get("replicas", 1),
            status.get("readyReplicas", 0),
            progress.get("reason") == "NewReplicaSetAvailable",
            progress.get("status") == "False",
            "deletionTimestamp" in thing["metadata"],
        )

    @property
    def lives(self) -> bool:
        if self.is_ending:
            return False
        return self.ready > 0 or self.wanted == 0 or not (self.is_complete or self.has_failed)


@dataclass
class Looker:
    """`last`: what was seen of an environment's Deployments, by uid, and is looked at anew beside the caller once in
    `every_seconds`. While the API server is not to be reached, it is what was seen before."""

    cluster: Cluster
    labels: dict[str, str]
    every_seconds: float
    found: dict[str, Seen] | None = None
    error: ExternalError | None = None
    due: float = 0.0
    thread: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> dict[str, Seen]:
        """Now. Raises UnreachableError."""
        found, _ = self.cluster.find("Deployment", self.labels)
        self.found = {one["metadata"]["uid"]: Seen.of(one) for one in found}
        self.due, self.error = time.monotonic() + self.every_seconds, None
        return self.found

    def last(self) -> dict[str, Seen]:
        """Raises UnreachableError where nothing was ever seen."""
        if self.found is None:
            return self.look()
        if time.monotonic() >= self.due and not (self.thread and self.thread.is_alive()):
            self.due = time.monotonic() + self.every_seconds
            self.thread = threading.Thread(target=self.look_beside, daemon=True)
            self.thread.start()
        return self.found

    def look_beside(self) -> None:
        try:
            self.look()
        except ExternalError as error:
            self.error = error


def cluster_of(config: DeployConfig) -> Cluster:
    assert isinstance(config.placement, Kubernetes)
    return Cluster.of(config.placement)


def looker_of(config: DeployConfig) -> Looker:
    assert isinstance(config.placement, Kubernetes)
    return made(cluster_of(config), config.name, config.placement.scrape_seconds)


@cache
def made(cluster: Cluster, name: str, every_seconds: float) -> Looker:
    """One a process."""
    return Looker(cluster, {ENVIRONMENT: name, PART: "server"}, every_seconds)


def start_pods(
    config: DeployConfig, slot: SlotName, objects: Iterable[JsonObject], first: int | None = None
) -> PodsFacts:
    """Applies them; what is there already becomes so. `first`: pods at the least, of a Deployment whose number of them
    is an autoscaler's. Raises ExternalError where the cluster refuses one."""
    cluster, facts = cluster_of(config), PodsFacts(deployment="", uid="", address="")
    for thing in objects:
        made = cluster.apply(thing)
        if thing["kind"] == "Deployment":
            facts["deployment"], facts["uid"] = made["metadata"]["name"], made["metadata"]["uid"]
            if first is not None and made["spec"].get("replicas", 1) < first:
                # By an update: a number that is applied once, and then no more, becomes 1.
                cluster.patch("Deployment", facts["deployment"], {"spec": {"replicas": first}})
        if thing["kind"] == "Service":
            facts["address"] = made["spec"]["clusterIP"]
    return facts


def wait_ready(pods: SlotPods, timeout_seconds: float, usual_seconds: float | None = None) -> float:
    """Seconds until each pod that the Deployment wants was ready. Raises ExternalError with what a pod says of itself
    when that cannot become true, or is late."""
    began = time.monotonic()
    with waiting(f"the pods of {pods.slot} start", usual_seconds):
        while True:
            with contextlib.suppress(UnreachableError):
                thing = pods.cluster.read("Deployment", pods.name)
                if thing is None or thing["metadata"]["uid"] != pods.uid:
                    raise ExternalError(f"the Deployment {pods.name} is gone: somebody deleted it", hint=pods.hint)
                seen = Seen.of(thing)
                if 0 < seen.wanted <= seen.ready and has_opened(pods):
                    return time.monotonic() - began
                fault = fault_of(pods.pods())
                if fault or seen.has_failed:
                    raise ExternalError(f"{pods.name}: {fault or 'its pods were not ready in time'}", hint=pods.hint)
            if time.monotonic() - began > timeout_seconds:
                raise ExternalError(f"{pods.name}: not ready in {timeout_seconds:g} s", hint=pods.hint)
            time.sleep(POLL_SECONDS)


def has_opened(pods: SlotPods) -> bool:
    """A pod may be ready before the Service leads to it."""
    import httpx

    try:
        return httpx.get(f"{pods.base_url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def end_slot_pods(config: DeployConfig, slot: SlotName, seconds: float, *, but: str | None = None) -> int:
    """Whatever the namespace has of the slot, but for the objects named `but`, and waits at most so long for its pods
    to end as they are meant to. Returns those that are there still."""
    cluster, labels = cluster_of(config), labels_of(config, "server", slot)
    for kind in owned(config):
        for thing in cluster.find(kind, labels)[0]:
            if thing["metadata"]["name"] != but:
                cluster.delete(kind, thing["metadata"]["name"])
    return await_end(lambda: pods_but(cluster, labels, but), seconds)


def owned(config: DeployConfig) -> tuple[str, ...]:
    """Of a slot, in the order in which they are taken away. A kind of another's is asked for where it is used."""
    assert isinstance(config.placement, Kubernetes)
    return ("ScaledObject", *OWNED) if config.placement.max_replicas is not None else OWNED


def pods_but(cluster: Cluster, labels: dict[str, str], but: str | None) -> int:
    found, _ = cluster.find("Pod", labels, cached=True)
    return sum(but is None or not pod["metadata"]["name"].startswith(f"{but}-") for pod in found)


def await_end(left: Callable[[], int], seconds: float) -> int:
    """What nobody can say now is asked again."""
    deadline, count = time.monotonic() + seconds, 1
    while True:
        with contextlib.suppress(UnreachableError):
            count = left()
        if not count or time.monotonic() >= deadline:
            return count
        time.sleep(POLL_SECONDS)
