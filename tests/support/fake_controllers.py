"""The fake API server with what runs beside a real one: Deployments get pods, which are processes with addresses of
their own (the fake vLLM, `tunegate router pod`), Services lead to a pod, what is deleted ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from configs.section import JsonObject
from infra.dvc.releases import folder_of
from infra.haproxy.runtime_api import Admin
from infra.kubernetes.api import PATHS
from infra.kubernetes.labels import PART, RELEASE
from infra.kubernetes.probe import PORT
from tests.paths import ROOT
from tests.support.fake_cluster import FakeApi, free_address, router_process
from tests.support.fake_servers import FAKE

PLURALS = {plural: kind for kind, (_, plural) in PATHS.items()}


@dataclass
class FakePod:
    """`process`: what runs in it; None where a cluster of thousands is only told of."""

    name: str
    address: str
    part: str
    thing: JsonObject
    process: subprocess.Popen[bytes] | None = None
    ends_at: float | None = None


class ControlledApi(FakeApi):
    """A Service has its address at once: that of the first pod of the Deployment of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: defaultdict[str, str] = defaultdict(free_address)

    def apply(self, kind: str, name: str, thing: JsonObject) -> JsonObject:
        if kind == "services":
            thing = thing | {"spec": {"clusterIP": self.addresses[name]} | thing["spec"]}
        return super().apply(kind, name, thing)


@dataclass
class FakeControllers:
    """`folder`: where routers keep their state; `pods` by the name of their Deployment. `runs`: how many pods of a
    Deployment are processes; the others are only told of."""

    folder: Path
    environment: str
    runs: int = 1_000_000
    api: ControlledApi = field(default_factory=ControlledApi)
    pods: dict[str, list[FakePod]] = field(default_factory=dict)
    started: list[FakePod] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.over.wait(0.05):
            with self.api.lock:
                things = dict(self.api.things)
            for (kind, name), thing in things.items():
                if kind == "deployments":
                    self.bring(name, thing)
            for name in list(self.pods):
                if ("deployments", name) not in things:
                    self.end(name)

    def bring(self, name: str, thing: JsonObject) -> None:
        """As many pods as it wants; its status says how many are ready."""
        found, wanted = self.pods.setdefault(name, []), thing["spec"].get("replicas", 1)
        found[:] = [pod for pod in found if pod.process is None or pod.process.poll() is None or self.bury(pod)]
        while len(found) < wanted:
            found.append(self.start(name, thing))
        while len(found) > wanted:
            self.kill(found.pop())
        ready = sum(map(self.look, found))
        status: JsonObject = thing.get("status", {})
        complete = ready == wanted or status.get("conditions", [{}])[0].get("reason") == "NewReplicaSetAvailable"
        reason = "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"
        now = {"readyReplicas": ready, "conditions": [{"type": "Progressing", "status": "True", "reason": reason}]}
        if status != now:
            thing["status"] = now

    def start(self, name: str, thing: JsonObject) -> FakePod:
        template = thing["spec"]["template"]
        part = template["metadata"]["labels"][PART]
        taken = {pod.address for pod in self.pods[name]}
        address = self.api.addresses[name] if self.api.addresses[name] not in taken else free_address()
        own = f"{name}-{uuid.uuid4().hex[:5]}"
        about = {"name": own, "uid": f"uid-{own}", "labels": template["metadata"]["labels"]}
        pod = FakePod(own, address, part, {"kind": "Pod", "metadata": about, "status": {"phase": "Running"}})
        if len(self.pods[name]) < self.runs or part == "router":
            is_router = part == "router"
            pod.process = self.router(pod) if is_router else self.server(pod, template["spec"]["containers"][0], thing)
        self.started.append(pod)
        self.say(pod, ready=False)
        return pod

    def router(self, pod: FakePod) -> subprocess.Popen[bytes]:
        return router_process(self.environment, pod.address, pod.thing["metadata"]["uid"], self.folder)

    def server(self, pod: FakePod, container: JsonObject, thing: JsonObject) -> subprocess.Popen[bytes]:
        """The container's own command, of the fake vLLM."""
        release = folder_of(thing["metadata"]["annotations"][RELEASE]) / "release"
        words = [pod.address if word == "0.0.0.0" else word for word in container["command"][1:]]
        words = [str(release.absolute()) if word == "/release" else word for word in words]
        given = {one["name"]: one["value"] for one in container["env"]} | {"PYTHONPATH": f"{FAKE}:{ROOT}"}
        return subprocess.Popen([sys.executable, *words], env=os.environ | given, stdout=subprocess.DEVNULL)

    def look(self, pod: FakePod) -> bool:
        """As a readiness probe does."""
        path = ":8405/ready" if pod.part == "router" else f":{PORT}/health"
        ready = pod.process is None
        with suppress(httpx.HTTPError):
            ready = ready or httpx.get(f"http://{pod.address}{path}", timeout=2).status_code == 200
        self.say(pod, ready=ready)
        return ready

    def say(self, pod: FakePod, *, ready: bool) -> None:
        status = {
            "phase": "Running",
            "podIP": pod.address,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        }
        if pod.thing["status"] != status:
            pod.thing = pod.thing | {"status": status}
            self.api.put("pods", pod.name, dict(pod.thing))

    def end(self, name: str) -> None:
        for pod in self.pods.pop(name):
            self.kill(pod)

    def kill(self, pod: FakePod) -> None:
        """With its grace period: it is told to end, and is gone when it has."""
        about = pod.thing["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        self.api.put("pods", pod.name, pod.thing | {"metadata": about})
        if pod.process:
            pod.process.terminate()
        threading.Thread(target=self.bury, args=(pod,), daemon=True).start()

    def bury(self, pod: FakePod) -> bool:
        if pod.process:
            pod.process.wait()
        self.api.delete("pods", pod.name)
        return False

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        for pod in self.started:
            if pod.process:
                pod.process.kill()
                pod.process.wait()
            haproxy = Admin(self.folder / pod.thing["metadata"]["uid"] / self.environment / "router", hint="none")
            if pid := haproxy.facts().get("Pid"):  # as all that runs in a pod dies with it
                os.kill(int(pid), signal.SIGKILL)
        self.api.close()
