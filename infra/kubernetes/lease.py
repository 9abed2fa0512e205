"""Who may change an environment's pods: the holder of its Lease (coordination.k8s.io), wherever that one runs. The
record's own lock holds on one file system; this one holds in the cluster."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, InputError
from configs.section import JsonObject
from infra.kubernetes.api import Cluster, ConflictError
from infra.kubernetes.labels import labels_of

DURATION_SECONDS = 15  # as Kubernetes' own controllers have it (leaderelection.go)
RENEW_SECONDS = 4.0


@dataclass
class Lease:
    """`holds`: whether it is ours for sure at this moment, by a clock that only goes forward."""

    cluster: Cluster
    name: str
    labels: dict[str, str]
    holder: str = field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    renewed: float = -1e9
    seen: tuple[str, float] = ("", 0.0)  # another one's last renewal, and when we first saw it
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def holds(self) -> bool:
        return time.monotonic() - self.renewed < DURATION_SECONDS - RENEW_SECONDS / 2

    def try_acquire(self) -> bool:
        """Ours, or taken from one who has not renewed it for its whole duration, by our own clock: theirs may be wrong.
        Raises ExternalError."""
        began = time.monotonic()
        found = self.cluster.read("Lease", self.name)
        try:
            if found is None:
                self.cluster.create(self.text(None))
            elif self.is_free(found["spec"]):
                self.cluster.replace(self.text(found))
            else:
                return False
        except ConflictError:
            return False
        self.renewed = began
        return True

    def is_free(self, spec: JsonObject) -> bool:
        owner, renewal = spec.get("holderIdentity"), str(spec.get("renewTime"))
        if owner in (None, "", self.holder):
            return True
        if self.seen[0] != renewal:
            self.seen = renewal, time.monotonic()
        return time.monotonic() - self.seen[1] > float(spec.get("leaseDurationSeconds", DURATION_SECONDS))

    def text(self, found: JsonObject | None) -> JsonObject:
        spec = found["spec"] if found else {}
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_ours = spec.get("holderIdentity") == self.holder
        metadata = {"name": self.name, "labels": self.labels}
        metadata |= {"resourceVersion": found["metadata"]["resourceVersion"]} if found else {}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": spec["acquireTime"] if is_ours else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (not is_ours),
            },
        }

    def keep(self) -> None:
        """Beside the agent. While the API server is away it is tried again and again."""
        while not self.ended.wait(RENEW_SECONDS):
            with contextlib.suppress(ExternalError):
                self.try_acquire()

    def release(self) -> None:
        """The next one need not wait."""
        with contextlib.suppress(ExternalError):
            found = self.cluster.read("Lease", self.name)
            if found and found["spec"].get("holderIdentity") == self.holder:
                self.cluster.replace(found | {"spec": found["spec"] | {"holderIdentity": ""}})


def lease_of(config: DeployConfig) -> Lease:
    assert isinstance(config.placement, Kubernetes)
    return Lease(Cluster.of(config.placement), f"{config.name}-agent", labels_of(config, "agent"))


@contextmanager
def held(config: DeployConfig, wait_seconds: float = DURATION_SECONDS + RENEW_SECONDS) -> Iterator[Lease]:
    """While the block lasts. Raises InputError where another one holds it and renews it, UnreachableError where nobody
    can say."""
    lease, deadline = lease_of(config), time.monotonic() + wait_seconds
    while not lease.try_acquire():
        if time.monotonic() > deadline:
            raise InputError(
                f"{config.name}: another agent holds the Lease {lease.name} of {lease.cluster.namespace}",
                hint=f"kubectl -n {lease.cluster.namespace} get lease {lease.name}",
            )
        time.sleep(1.0)
    keeper = threading.Thread(target=lease.keep, daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.ended.set()
        keeper.join(1.0)
        lease.release()
