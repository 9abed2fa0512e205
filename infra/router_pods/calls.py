"""The agent's side of the line to each router pod: who they are, and one question to all of them at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, InputError, UnreachableError
from infra.files.atomic import read_json, write_private
from infra.kubernetes.api import Cluster
from infra.kubernetes.labels import labels_of
from infra.kubernetes.pods import Pod, pod_of
from infra.router_pods.admin import ADMIN_PORT
from infra.state.folder import state_folder

if TYPE_CHECKING:
    import httpx

TOKEN = "TUNEGATE_ROUTER_TOKEN"
LISTED = "listed.json"
SHORTEST_TOKEN = 16
LIST_AGE_SECONDS = 1.5
CONNECT_SECONDS, READ_SECONDS = 1.0, 3.0
API_SECONDS = 5.0  # of the API server: a switch does not wait longer for it
SILENCE_SECONDS = 5.0  # so long a router that did not answer is asked for no count


class SilentError(UnreachableError):
    """A router that did not answer."""


@dataclass
class Listing:
    """The router pods as they were last listed, at `at` (monotonic)."""

    pods: list[Pod]
    at: float


LISTINGS: dict[tuple[int, str, str], Listing] = {}  # by process: a fork may not share what another one changes
SILENT: dict[str, float] = {}


def token() -> str:
    """Raises InputError where none is set, or one that is soon guessed."""
    found = os.environ.get(TOKEN, "")
    if len(found) < SHORTEST_TOKEN or not found.isascii() or not found.isprintable():
        raise InputError(
            f"{TOKEN}: found {len(found)} characters, expected {SHORTEST_TOKEN} or more of ASCII",
            hint="kubectl create secret generic ENV-router --from-literal=token=$(openssl rand -hex 32)",
        )
    return found


def cluster_of(config: DeployConfig) -> Cluster:
    assert isinstance(config.placement, Kubernetes)
    return replace(Cluster.of(config.placement), read_seconds=API_SECONDS)


def router_pods(config: DeployConfig, *, fresh: bool = False) -> list[Pod]:
    """With an address, the ending ones too. At most LIST_AGE_SECONDS old, or `fresh`; while the API server is silent,
    as it last said, to whichever process. Raises UnreachableError where it never said anything."""
    cluster, path = cluster_of(config), state_folder(config) / "router" / LISTED
    key = os.getpid(), cluster.namespace, config.name
    known = LISTINGS.get(key)
    if known and not fresh and time.monotonic() - known.at < LIST_AGE_SECONDS:
        return known.pods
    try:
        items, _ = cluster.find("Pod", labels_of(config, "router"), cached=not fresh)
    except UnreachableError:
        found = known.pods if known else pods_in(path)
        if not found:
            raise
    else:
        found = [pod for pod in map(pod_of, items) if pod.address]
        if found != pods_in(path):
            write_private(path, json.dumps({"pods": found}))
    LISTINGS[key] = Listing(found, time.monotonic())
    return found


def pods_in(path: Path) -> list[Pod]:
    """As any process listed them last."""
    return [Pod(*facts) for facts in (read_json(path) or {}).get("pods", [])]


def ask(pod: Pod, method: str, path: str, body: Any = None) -> Any:
    """One router's answer. Raises UnreachableError where it does not answer, or refuses: no release is at fault."""
    import httpx

    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    url = f"http://{host}:{ADMIN_PORT}{path}"
    try:
        reply = client_of(os.getpid()).request(method, url, json=body, headers={"Authorization": f"Bearer {token()}"})
    except httpx.HTTPError as error:
        raise SilentError(
            f"router {pod.name} ({pod.address}) does not answer: {type(error).__name__} {error}",
            hint=f"kubectl logs {pod.name}",
        ) from None
    if reply.status_code != 200:
        raise UnreachableError(
            f"router {pod.name} ({pod.address}): {reply.status_code} {reply.text[:200]}",
            hint=f"kubectl logs {pod.name}",
        )
    return reply.json()


@dataclass(frozen=True)
class Answers:
    """By uid: what each said, in how many milliseconds, and why the others said nothing."""

    said: Mapping[str, Any]
    milliseconds: Mapping[str, float]
    errors: Mapping[str, ExternalError]


def ask_each(pods: Collection[Pod], method: str, path: str, body: Any = None) -> Answers:
    """All at once."""
    if not pods:
        return Answers({}, {}, {})
    token()

    def timed(pod: Pod) -> tuple[Any, float, ExternalError | None]:
        began = time.perf_counter()
        try:
            said, error = ask(pod, method, path, body), None
        except ExternalError as found:
            said, error = None, found
        return said, round(1000 * (time.perf_counter() - began), 1), error

    with ThreadPoolExecutor(len(pods)) as pool:
        found = dict(zip((pod.uid for pod in pods), pool.map(timed, pods), strict=True))
    for uid, (_, _, error) in found.items():
        SILENT.pop(uid, None)
        if isinstance(error, SilentError):
            SILENT[uid] = time.monotonic()
    return Answers(
        {uid: said for uid, (said, _, error) in found.items() if error is None},
        {uid: spent for uid, (_, spent, error) in found.items() if error is None},
        {uid: error for uid, (_, _, error) in found.items() if error},
    )


def is_silent(pod: Pod) -> bool:
    """A moment ago it did not answer: one that hangs keeps nobody from asking the others."""
    return time.monotonic() - SILENT.get(pod.uid, -SILENCE_SECONDS) < SILENCE_SECONDS


@cache
def client_of(process: int) -> httpx.Client:
    """One a process, its connections kept open."""
    import httpx

    return httpx.Client(timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS), trust_env=False)
