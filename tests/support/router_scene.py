"""Router pods and model servers as real processes on addresses of their own, before a fake API server."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any
from unittest.mock import patch

import httpx
import yaml

from configs.environment.config import DeployConfig
from configs.slots import SlotName
from infra.haproxy.runtime_api import Admin
from infra.kubernetes.api import client_of
from infra.router_pods.calls import LISTINGS, SILENT
from infra.router_pods.routers import PUBLISHED, Routers
from tests.paths import ROOT
from tests.support.fake_cluster import TOKEN, FakeApi, cluster_config, free_address, router_process
from tests.support.kills import wait_until
from tests.support.model_pod import model_server

KEY = "sesame-sesame-sesame"
DIGESTS: dict[SlotName, str] = {"blue": "sha256:" + "b" * 64, "green": "sha256:" + "a" * 64}


@dataclass
class RouterScene:
    """`servers`: model servers by their pods' names, `addresses` of all pods."""

    folder: Path
    api: FakeApi
    config: DeployConfig
    stack: ExitStack
    servers: dict[str, Popen[bytes]] = field(default_factory=dict)
    processes: dict[str, Popen[bytes]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def routers(self) -> Routers:
        return Routers(self.config)

    def serve(self, name: str, slot: SlotName, digest: str | None = None, **facts: Any) -> None:
        """A model server's pod, Ready."""
        address = self.addresses[name] = free_address()
        self.servers[name] = self.stack.enter_context(model_server(address, name))
        wait_until(lambda: get(f"http://{address}:8000/") == 200)
        self.put(name, slot, digest, **facts)

    def put(self, name: str, slot: SlotName, digest: str | None = None, **facts: Any) -> None:
        self.api.put_pod(self.config, name, self.addresses[name], slot=slot, digest=digest or DIGESTS[slot], **facts)

    def open_router(self, name: str) -> None:
        """Its pod is not Ready yet: who plays the kubelet says when (`follow`)."""
        self.addresses[name] = free_address()
        self.start_router(name)
        self.put_router(name, ready=False)

    def put_router(self, name: str, **facts: Any) -> None:
        self.api.put_pod(self.config, name, self.addresses[name], "router", **facts)
        LISTINGS.clear()  # the agent has seen it

    def start_router(self, name: str) -> None:
        process = router_process(self.config.name, self.addresses[name], f"uid-{name}", self.folder)
        self.processes[name] = process
        self.stack.callback(self.end_router, name)

    def haproxy(self, name: str) -> Admin:
        return Admin(self.folder / f"uid-{name}" / self.config.name / "router", hint="none")

    def end_router(self, name: str) -> None:
        """By kills: its pod's containers die together."""
        process, pid = self.processes[name], self.haproxy(name).facts().get("Pid")
        process.kill()
        process.wait()
        if pid:
            os.kill(int(pid), signal.SIGKILL)

    def is_ready(self, name: str) -> bool:
        return get(f"http://{self.addresses[name]}:8405/ready") == 200

    def follow(self, *names: str) -> None:
        """As the kubelet does: each is asked until it is ready, and then its pod is."""
        for name in names:
            wait_until(lambda name=name: self.is_ready(name), 90)  # type: ignore[misc]
            self.put_router(name)

    def begin(self, *names: str) -> None:
        """Routers that were told that blue serves."""
        for name in names:
            self.open_router(name)
        starts = threading.Thread(target=self.follow, args=names)
        starts.start()
        self.routers.start(KEY)
        starts.join()
        for slot, digest in DIGESTS.items():
            self.routers.set_release(slot, digest)
        self.routers.switch("blue")

    def ask(self, router: str) -> tuple[int, str]:
        """Status, and who answered."""
        reply = httpx.get(f"http://{self.addresses[router]}:8080/health", timeout=10)
        return reply.status_code, reply.text

    def answering(self, router: str, times: int = 12) -> set[str]:
        return {self.ask(router)[1] for _ in range(times)}

    def words(self, name: str) -> str:
        return (self.folder / f"uid-{name}.log").read_text()


@dataclass
class Stream:
    """One that reads to its end in a thread of its own. `length`: bytes so far, -1 where it was cut."""

    url: str
    parts: int
    length: int = 0
    slot: str = ""
    begun: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        body = json.dumps({"parts": self.parts})
        try:
            with httpx.stream(
                "POST", f"{self.url}/v1/chat/completions", content=body, headers=headers, timeout=60
            ) as reply:
                self.slot = reply.headers.get("x-tunegate-slot", str(reply.status_code))
                self.begun.set()
                for part in reply.iter_bytes():
                    self.length += len(part)
        except httpx.HTTPError:
            self.length = -1
        self.begun.set()

    def is_whole(self) -> bool:
        self.thread.join()
        return self.length == self.parts


def get(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=2).status_code
    except httpx.HTTPError:
        return None


@contextmanager
def router_scene(folder: Path, **facts: Any) -> Iterator[RouterScene]:
    """In the working directory `folder`."""
    api = FakeApi()
    config = cluster_config(**facts)
    path = folder / "configs" / "deploy" / f"{config.name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    variables = {
        "KUBECONFIG": str(api.kubeconfig(folder)),
        "TUNEGATE_ROUTER_TOKEN": TOKEN,
        "TUNEGATE_STATE_HOME": str(folder / "agent"),
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as stack, chdir(folder), patch.dict(os.environ, variables):
        stack.callback(api.close)
        for known in (LISTINGS, SILENT, PUBLISHED):
            known.clear()
        client_of.cache_clear()  # of another scene's cluster
        yield RouterScene(folder, api, config, stack)
