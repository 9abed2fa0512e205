"""One router pod: HAProxy, the slots' pods as its servers, and a small HTTP server by which the agent tells it where
traffic goes. Nobody else has to live for it to serve on.

tunegate router pod ENV
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from types import FrameType

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, InputError, TunegateError
from configs.read import read_environment
from configs.slots import SLOTS
from infra.boot import Moment, identify, is_alive
from infra.files.atomic import write_private, write_text
from infra.haproxy.lost import LostRequests
from infra.haproxy.process import stop_haproxy
from infra.haproxy.router import Router
from infra.haproxy.runtime_api import read_map_file
from infra.haproxy.servers import PODS
from infra.kubernetes.api import Cluster
from infra.kubernetes.labels import RELEASE, labels_of
from infra.kubernetes.pods import KnownPods
from infra.router_pods.admin import open_admin
from infra.router_pods.assign import Assignment, assign
from infra.router_pods.counts import RouterCounts
from infra.router_pods.follow import LIST_TIMEOUT, Follower
from infra.router_pods.maps import Maps, maps_that_run, tell
from infra.router_pods.told import read_told

POLL_SECONDS = 0.25  # between two looks whether HAProxy runs
LOOK_SECONDS = 1.0  # between two at its servers, where no pod changes
RELOAD_SECONDS = 30.0  # between two looks at the settings' and certificates' files
ACCEPT_SECONDS = 5.0  # after SIGTERM: until nobody is sent here any more, new requests are taken
LISTEN_SECONDS = 15.0  # at the end: until the agent has read the last counts
STOP_SECONDS = 10.0  # for HAProxy's own end, and ours
TOLD = "told"


def grace_seconds(config: DeployConfig) -> float:
    """Of the pod: what its end takes at the longest."""
    return ACCEPT_SECONDS + config.drain_deadline_seconds + LISTEN_SECONDS + STOP_SECONDS


@dataclass
class RouterPod:
    """`uid`: the pod's. `was_asked`: the agent itself has spoken; `end`: it was told to; `final_read`: the agent has
    its last counts."""

    config: DeployConfig
    cluster: Cluster
    uid: str
    known: KnownPods = field(default_factory=KnownPods)
    end: threading.Event = field(default_factory=threading.Event)
    final_read: threading.Event = field(default_factory=threading.Event)
    was_asked: bool = False
    has_stopped: bool = False
    complaint: str = ""
    telling: threading.Lock = field(default_factory=threading.Lock)
    look_due: float = 0.0
    reload_due: float = field(default_factory=lambda: time.monotonic() + RELOAD_SECONDS)

    @property
    def router(self) -> Router:
        return Router(self.config)

    def run(self) -> None:
        """Until SIGTERM, and then until the last stream has ended."""
        Follower(self.cluster, labels_of(self.config, "server"), self.known, say, self.take_told).start()
        while not self.end.is_set():
            self.look()
            self.known.changed.wait(POLL_SECONDS)
        self.stop()

    def look(self) -> None:
        """What fails is said, and tried again in a second."""
        try:
            if not self.router.is_running():
                self.open()
            if self.known.changed.is_set() or time.monotonic() > self.look_due:
                self.known.changed.clear()
                self.look_due = time.monotonic() + LOOK_SECONDS
                self.lead_to_pods()
            if time.monotonic() > self.reload_due:
                self.reload()
        except Exception as error:  # whatever it is: with this process its container ends, and every open stream
            self.complain(error.message if isinstance(error, TunegateError) else f"{type(error).__name__}: {error}")
            time.sleep(POLL_SECONDS)
        else:
            self.complaint = ""

    def open(self) -> None:
        """As it was, by the maps' files; its counts begin anew."""
        folder = self.router.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "start", uuid.uuid4().hex)
        self.router.process.open()

    def take_told(self) -> None:
        """What the agent told all routers last, until it speaks to this one itself. Raises ExternalError."""
        found = None if self.was_asked else read_told(self.cluster, self.config)
        if found is not None:
            self.be_told(found)

    def be_told(self, maps: Maps, *, by_agent: bool = False) -> None:
        """Raises ExternalError where HAProxy does not take it."""
        with self.telling:
            if self.was_asked and not by_agent:
                return
            tell(self.router, maps)
            self.was_asked = by_agent
            (self.router.folder / TOLD).touch()
        self.known.changed.set()  # a slot's release may be another one: its pods are others

    def lead_to_pods(self) -> None:
        """HAProxy's servers lead to the pods that are. Before the first list none is known: what was, stays."""
        if not self.known.were_listed:
            return
        found = self.assignment()
        if found.commands:  # as a rule there are none, and a switch must not wait for it to be found out
            router = self.router
            with router.admin.changing():
                found = self.assignment()
                write_private(router.folder / PODS, json.dumps(found.places))
                router.admin.ask_all(found.commands)
        if found.homeless:
            self.complain(f"no server is free for {', '.join(found.homeless[:5])}")

    def assignment(self) -> Assignment:
        servers = self.router.servers
        labels = {slot: self.release_label(slot) for slot in SLOTS}
        seen = servers.states()
        names = {slot: [name for name in servers.names(slot) if (slot, name) in seen] for slot in SLOTS}
        return assign(self.known.all(), labels, names, seen, servers.standbys())

    def release_label(self, slot: str) -> str:
        """Of the release that the slot holds, as the agent said."""
        digest = read_map_file(self.router.folder / "releases.map").get(slot, "")
        return labels_of(self.config, digest=digest).get(RELEASE, "")

    def reload(self) -> None:
        self.reload_due = time.monotonic() + RELOAD_SECONDS
        self.config = pod_config(read_environment(self.config.name), self.config.router.host)
        changed = self.router.reload()
        if changed:
            say(f"read anew: {', '.join(changed)}")

    def is_ready(self) -> bool:
        """HAProxy runs, knows where traffic goes, and which pods there are."""
        told = (self.router.folder / TOLD).exists()
        return told and self.known.were_listed and not self.end.is_set() and self.router.is_running()

    def counts(self) -> RouterCounts:
        """Raises ExternalError where HAProxy has just died."""
        router = self.router
        has_ended = self.end.is_set() and not router.is_running()
        rows = router.replaced.counts(0) if has_ended else router.servers.rows()
        start = router.folder / "start"
        if self.has_stopped:
            self.final_read.set()
        return {
            "id": f"{self.uid}/{start.read_text(encoding='utf8') if start.exists() else ''}",
            "final": self.has_stopped,
            "traffic": {slot: dict(vars(one)) for slot, one in router.servers.traffic(rows).items()},
            "unanswered": router.servers.unanswered(rows),
            "uncounted": router.uncounted(),
            "held": router.servers.held(rows),
        }

    def maps(self) -> Maps:
        return maps_that_run(self.router)

    def lost(self, since: Moment, until: Moment) -> LostRequests:
        return self.router.lost(since, until)

    def stop(self) -> None:
        """Nothing new is taken once nobody is sent here; what is open goes on to its end, or the deadline; then the
        agent reads the last counts."""
        accepted = time.monotonic() + ACCEPT_SECONDS
        while time.monotonic() < accepted:
            self.look()
            time.sleep(0.2)
        router = self.router
        running = identify(router.pid() or 0)
        if running:
            try:
                router.replaced.keep(running)
            except (ExternalError, OSError) as error:  # its streams end all the same; what they came to is not known
                self.complain(f"nobody counts the last streams: {error}")
            stop_haproxy({running.pid, *router.replaced.alive()}, self.config.drain_deadline_seconds)
            deadline = time.monotonic() + STOP_SECONDS
            while is_alive(running) and time.monotonic() < deadline:
                time.sleep(0.05)
        self.has_stopped = True
        self.final_read.wait(LISTEN_SECONDS)
        time.sleep(POLL_SECONDS)  # the answer is on its way

    def complain(self, words: str) -> None:
        """Once, however often it is so."""
        if words != self.complaint:
            say(words)
        self.complaint = words


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def pod_config(config: DeployConfig, address: str) -> DeployConfig:
    """Bound to the pod's own address. Raises InputError for an environment without pods."""
    if not isinstance(config.placement, Kubernetes):
        raise InputError(
            f"{config.name}: found placement.kind local, expected kubernetes", hint=f"tunegate deploy {config.name}"
        )
    return config.model_copy(update={"router": config.router.model_copy(update={"host": address})})


def run_pod(name: str, address: str, uid: str, token: str) -> None:
    """In the foreground. Raises InputError, and ExternalError where the admin port is taken."""
    config = pod_config(read_environment(name), address)
    assert isinstance(config.placement, Kubernetes)
    pod = RouterPod(config, replace(Cluster.of(config.placement), read_seconds=LIST_TIMEOUT), uid)

    def end(number: int, frame: FrameType | None) -> None:
        pod.end.set()
        pod.known.changed.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with open_admin(pod, address, token):
        pod.run()
