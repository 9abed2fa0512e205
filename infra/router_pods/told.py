"""What all routers were told last, as a Secret of the namespace: a router that comes to be knows it before it serves. A
Secret, for the hashes of the API keys are in it."""

from __future__ import annotations

import base64
import json

from configs.environment.config import DeployConfig
from configs.section import JsonObject
from infra.kubernetes.api import Cluster
from infra.kubernetes.labels import labels_of
from infra.router_pods.maps import Maps

KEY = "maps.json"


def told_name(config: DeployConfig) -> str:
    return f"{config.name}-traffic"


def read_told(cluster: Cluster, config: DeployConfig) -> Maps | None:
    """None where the agent has never spoken. Raises ExternalError."""
    found = cluster.read("Secret", told_name(config))
    text = ((found or {}).get("data") or {}).get(KEY)
    return json.loads(base64.b64decode(text)) if text else None


def told_object(config: DeployConfig, maps: Maps) -> JsonObject:
    text = json.dumps(maps, sort_keys=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": told_name(config), "labels": labels_of(config, "router")},
        "data": {KEY: base64.b64encode(text.encode()).decode()},
    }
