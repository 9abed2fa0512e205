"""An object and a change of it, as Kubernetes merges them strategically: lists whose items have names, by these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from configs.section import JsonObject

# patchMergeKey of each list of a PodSpec, as Kubernetes' OpenAPI document says (x-kubernetes-patch-merge-key). Any
# other list is replaced.
KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def merged(base: JsonObject, change: JsonObject) -> JsonObject:
    """`change` over `base`, both as they were; null takes a key away."""
    found = dict(base)
    for key, value in change.items():
        found[key] = merged_value(key, base.get(key), value)
    return {key: value for key, value in found.items() if value is not None}


def merged_value(key: str, base: Any, change: Any) -> Any:
    if isinstance(change, dict):
        return merged(base if isinstance(base, dict) else {}, change)
    if isinstance(change, list) and isinstance(base, list) and key in KEYS and all_bear(KEYS[key], change):
        return merged_by(KEYS[key], base, change)
    return change


def merged_by(name: str, base: Sequence[JsonObject], change: Sequence[JsonObject]) -> list[JsonObject]:
    """In the order of `base`, what is new after it."""
    rows = {one[name]: one for one in base}
    for one in change:
        rows[one[name]] = merged(rows.get(one[name], {}), one)
    return list(rows.values())


def all_bear(name: str, items: list[Any]) -> bool:
    return all(isinstance(one, dict) and isinstance(one.get(name), str | int) for one in items)
