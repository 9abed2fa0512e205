"""A Kustomize base: a file an object, and the list of them. The same objects give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

from configs.section import JsonObject
from infra.files.yaml_text import as_yaml

LIST = "kustomization.yaml"


def base_of(things: Sequence[JsonObject]) -> dict[str, str]:
    """By the file's name, its text."""
    files = {file_name(thing): as_yaml(thing) for thing in things}
    assert len(files) == len(things)
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(files)}
    return {LIST: as_yaml(head)} | {name: files[name] for name in sorted(files)}


def file_name(thing: JsonObject) -> str:
    return f"{thing['kind'].lower()}-{thing['metadata']['name']}.yaml"
