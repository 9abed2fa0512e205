"""The agent in this process over pods: its API server is a fake, and what it applies becomes processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import yaml

from infra.kubernetes.api import client_of
from infra.kubernetes.slot import made
from infra.router_pods.calls import LISTINGS, SILENT
from infra.router_pods.routers import PUBLISHED
from serve.record.environment import Environment
from tests.paths import ROOT
from tests.support.agent_scene import QUICK, Scene
from tests.support.fake_cluster import TOKEN, cluster_config
from tests.support.fake_controllers import FakeControllers
from tests.support.fake_servers import fake_world

SETTINGS: dict[str, Any] = {
    "bake_seconds": 0,
    "drain_deadline_seconds": 20,
    "watch": {"on_inconclusive": "accept"},
    "supervision": QUICK | {"probe_timeout_seconds": 20},
    "replicas": 1,
    "placed": {"scrape_seconds": 0.2},
}


class ClusterScene(Scene):
    """`cluster` runs the pods."""

    def __init__(self, cluster: FakeControllers, **facts: Any) -> None:
        self.cluster = cluster
        self.env = Environment(cluster_config(cluster.environment, **SETTINGS | facts))
        self.config = self.env.config
        self.said = []
        self.agent = self.new_agent()

    def answers(self) -> set[str]:
        """The digests that every router answers with."""
        return {
            httpx.get(f"{url}/health", timeout=5).headers.get("x-tunegate-release", "none")
            for url in self.env.router.base_urls
        }


@contextmanager
def cluster_scene(folder: Path, **facts: Any) -> Iterator[ClusterScene]:
    with ExitStack() as stack, chdir(folder):
        cluster = FakeControllers(folder, "x", runs=facts.pop("runs", 1_000_000))
        stack.callback(cluster.close)
        variables = fake_world(folder) | {
            "KUBECONFIG": str(cluster.api.kubeconfig(folder)),
            "TUNEGATE_ROUTER_TOKEN": TOKEN,
            "TUNEGATE_STATE_HOME": str(folder / "agent"),
        }
        variables["PYTHONPATH"] = f"{variables['PYTHONPATH']}:{ROOT}"
        stack.enter_context(patch.dict(os.environ, variables))
        for known in (LISTINGS, SILENT, PUBLISHED):
            known.clear()
        client_of.cache_clear()  # of another scene's cluster
        made.cache_clear()
        scene = ClusterScene(cluster, **facts)
        path = folder / "configs/deploy/x.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(scene.config.model_dump(mode="json", exclude_unset=True)))
        yield scene
