"""What every pod of ours is made of: no right that it does not need, and words that reach it as they are."""

from __future__ import annotations

import json

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.section import JsonObject
from infra.kubernetes.labels import labels_of

USER = 10001  # of Dockerfile.gpu's images
LOCKED_DOWN = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY = {
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "runAsGroup": USER,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def placement_of(config: DeployConfig) -> Kubernetes:
    assert isinstance(config.placement, Kubernetes)
    return config.placement


def mount(name: str, path: str, *, read_only: bool = False) -> JsonObject:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def environment(given: dict[str, str]) -> list[JsonObject]:
    names = sorted(given)
    return [
        {"name": name, "value": value}
        for name, value in zip(names, literal([given[one] for one in names]), strict=True)
    ]


def literal(words: list[str]) -> list[str]:
    """Kubernetes puts variables in for $(NAME), and takes $$ for a dollar."""
    return [word.replace("$", "$$") for word in words]


def budget(facts: JsonObject, labels: dict[str, str]) -> JsonObject:
    """One pod at a time; one that serves nothing never keeps a node from being drained."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels}, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": facts, "spec": spec}


def spread(labels: dict[str, str]) -> JsonObject:
    """Over nodes, as far as there are some."""
    selector = {"matchLabels": labels}
    rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {**rule, "labelSelector": selector}


def facts_of(config: DeployConfig, name: str, labels: dict[str, str] | None = None) -> JsonObject:
    """An object's metadata."""
    return {
        "name": name,
        "namespace": placement_of(config).namespace,
        "labels": labels or labels_of(config),
    }


def unshared(things: list[JsonObject]) -> list[JsonObject]:
    """A change in one is none in another."""
    found: list[JsonObject] = json.loads(json.dumps(things))
    return found
