"""A Kubernetes API server of a few objects, at the seam: it lists pods, watches them, keeps what is applied. It can
lose a word, hang, or be down. Pods are processes of this machine, each with an address of its own in 127.0.0.0/8."""

from __future__ import annotations

import itertools
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from configs.environment.config import DeployConfig
from configs.section import JsonObject
from configs.slots import SlotName
from infra.kubernetes.api import client_of
from infra.kubernetes.labels import Part, labels_of
from infra.kubernetes.slot import made

IMAGE = "registry.example/tunegate@sha256:" + "a" * 64
NAMESPACE = "models"
TOKEN = "a-token-of-the-routers"


def free_address() -> str:
    """Nobody else's in this run: whatever its ports are."""
    return ".".join(["127", *(str(random.SystemRandom().randint(1, 254)) for _ in range(3))])


def cluster_config(name: str = "x", **facts: Any) -> DeployConfig:
    placement = {
        "kind": "kubernetes",
        "namespace": NAMESPACE,
        "image": IMAGE,
        "agent_image": IMAGE,
        "replicas": facts.pop("replicas", 4),
        "bytes": "oci://registry.example/releases",
    } | facts.pop("placed", {})
    return DeployConfig.model_validate({"name": name, "model": "m", "gate": None, "placement": placement} | facts)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """The one that this process knows."""
    found = FakeApi()
    monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path)))
    client_of.cache_clear()
    made.cache_clear()
    yield found
    found.close()


class QuietServer(ThreadingHTTPServer):
    """Of a client that went away it says nothing."""

    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class FakeApi:
    """`mode` is what it does with whoever asks; `asked` counts them. What is applied is kept by kind and name."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.mode: Literal["up", "down", "hang"] = "up"
        self.asked = 0
        self.pod_bytes = 0  # more of each pod: a real one has some thousand bytes of a spec and of who wrote it
        self.things: dict[tuple[str, str], JsonObject] = {}
        self.versions = itertools.count(1)
        self.version = 0
        self.watchers: list[queue.Queue[JsonObject | None]] = []
        self.server = QuietServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kubeconfig(self, folder: Path) -> Path:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": url}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(found))
        return path

    def put(self, kind: str, name: str, thing: JsonObject, *, silently: bool = False) -> JsonObject:
        with self.lock:
            self.version = next(self.versions)
            before = self.things.get((kind, name))
            thing["metadata"]["resourceVersion"] = str(self.version)
            self.things[kind, name] = thing
            self.tell("MODIFIED" if before else "ADDED", thing, silently or kind != "pods")
        return thing

    def apply(self, kind: str, name: str, thing: JsonObject) -> JsonObject:
        """What is there keeps the fields that `thing` does not name, and its version where nothing changed."""
        with self.lock:
            before = self.things.get((kind, name))
            found = merged_deep(before or {"metadata": {"uid": f"uid-{name}-{next(self.versions)}"}}, thing)
            return before if before is not None and found == before else self.put(kind, name, found)

    def delete(self, kind: str, name: str, *, silently: bool = False) -> None:
        """`silently`: no watch hears of it."""
        with self.lock:
            self.version = next(self.versions)
            thing = self.things.pop((kind, name))
            thing["metadata"]["resourceVersion"] = str(self.version)
            self.tell("DELETED", thing, silently or kind != "pods")

    def tell(self, word: str, thing: JsonObject, silently: bool) -> None:
        if not silently:
            for one in self.watchers:
                one.put(json.loads(json.dumps({"type": word, "object": thing})))

    def put_pod(
        self,
        config: DeployConfig,
        name: str,
        address: str,
        part: Part = "server",
        slot: SlotName | None = None,
        digest: str | None = None,
        *,
        ready: bool = True,
        ending: bool = False,
        silently: bool = False,
    ) -> None:
        about: JsonObject = {"name": name, "uid": f"uid-{name}", "labels": labels_of(config, part, slot, digest)}
        about |= {"annotations": {"more": "x" * self.pod_bytes}} if self.pod_bytes else {}
        about |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {}
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"phase": "Running", "podIP": address, "conditions": conditions}
        self.put("pods", name, {"kind": "Pod", "metadata": about, "status": status}, silently=silently)

    def listed(self, kind: str, query: dict[str, list[str]]) -> list[JsonObject]:
        return [thing for (one, _), thing in self.things.items() if one == kind and is_selected(thing, query)]

    def close(self) -> None:
        for one in self.watchers:
            one.put(None)
        self.server.shutdown()
        self.server.server_close()


def merged_deep(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {key: merged_deep(one.get(key), value) for key, value in other.items()}
    return other


def is_selected(thing: JsonObject, query: dict[str, list[str]]) -> bool:
    wanted = dict(part.split("=") for part in query.get("labelSelector", [""])[0].split(",") if part)
    return wanted.items() <= (thing["metadata"].get("labels") or {}).items()


def handler_of(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            kind, name, query = self.target()
            if not self.is_served():
                return
            if name:
                with api.lock:
                    self.send(api.things.get((kind, name)))
            elif "watch" in query:
                self.watch(kind, query)
            else:
                with api.lock:
                    found = {"items": api.listed(kind, query), "metadata": {"resourceVersion": str(api.version)}}
                    self.send(found)

        def do_PATCH(self) -> None:
            kind, name, _ = self.target()
            body = self.body()
            if self.is_served():
                self.send(api.apply(kind, name, body))

        def do_POST(self) -> None:
            kind, _, _ = self.target()
            body = self.body()
            if self.is_served():
                name = body["metadata"]["name"]
                self.send(None if (kind, name) in api.things else api.apply(kind, name, body), otherwise=409)

        def do_PUT(self) -> None:
            kind, name, _ = self.target()
            body = self.body()
            if self.is_served():
                seen = api.things.get((kind, name), {}).get("metadata", {}).get("resourceVersion")
                is_last = seen == body["metadata"].get("resourceVersion")
                self.send(api.put(kind, name, body) if is_last else None, otherwise=409)

        def do_DELETE(self) -> None:
            kind, name, _ = self.target()
            if self.is_served():
                found = api.things.get((kind, name))
                if found:
                    api.delete(kind, name)
                self.send(found)

        def body(self) -> JsonObject:
            found: JsonObject = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return found

        def target(self) -> tuple[str, str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            kind, _, name = parts.path.rpartition("/namespaces/")[2].partition("/")[2].partition("/")
            return kind, name, parse_qs(parts.query)

        def is_served(self) -> bool:
            api.asked += 1
            while api.mode == "hang":
                time.sleep(0.05)
            if api.mode == "down":
                self.close_connection = True
            return api.mode == "up"

        def send(self, found: JsonObject | None, otherwise: int = 404) -> None:
            text = json.dumps(found or {"message": "not found"}).encode()
            self.send_response(200 if found else otherwise)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def watch(self, kind: str, query: dict[str, list[str]]) -> None:
            words: queue.Queue[JsonObject | None] = queue.Queue()
            api.watchers.append(words)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            try:
                while api.mode != "down":
                    try:
                        word = words.get(timeout=0.05)
                    except queue.Empty:
                        continue
                    if word is None:
                        break
                    if is_selected(word["object"], query):
                        text = json.dumps(word).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            except OSError:
                pass
            finally:
                api.watchers.remove(words)
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def router_process(name: str, address: str, uid: str, folder: Path) -> subprocess.Popen[bytes]:
    """`tunegate router pod`, with a state of its own, in the working directory."""
    words = [sys.executable, "-m", "tunegate", "router", "pod", name, "--address", address, "--uid", uid]
    environment = os.environ | {"TUNEGATE_STATE_HOME": str(folder / uid), "TUNEGATE_ROUTER_TOKEN": TOKEN}
    with (folder / f"{uid}.log").open("ab") as log:
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log)
