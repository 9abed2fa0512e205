"""What a hand changed of our objects, put back. Only what we applied is compared: what the server, or another
controller, adds is theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from configs.section import JsonObject
from infra.kubernetes.api import Cluster

Key = tuple[str, str]  # kind and name


@dataclass
class Healer:
    """`applied`: of each object, what the server made of the fields that are ours: it writes 1000m as 1."""

    cluster: Cluster
    labels: dict[str, str]
    applied: dict[Key, Any] = field(default_factory=dict)

    def heal(self, wanted: Iterable[JsonObject]) -> list[str]:
        """KIND/NAME of each that was not so, and is again. One list a kind where all is as it was. Raises
        ExternalError."""
        objects = {(thing["kind"], thing["metadata"]["name"]): thing for thing in wanted}
        self.applied = {key: one for key, one in self.applied.items() if key in objects}
        there = {key: thing for kind in sorted({kind for kind, _ in objects}) for key, thing in self.look(kind)}
        healed = []
        for key, thing in objects.items():
            live = there.get(key)
            if live is not None and key in self.applied and projected(live, thing) == self.applied[key]:
                continue
            made = self.cluster.apply(thing)
            self.applied[key] = projected(made, thing)
            if live is None or version(made) != version(live):
                healed.append("/".join(key))
        return healed

    def look(self, kind: str) -> Iterable[tuple[Key, JsonObject]]:
        found, _ = self.cluster.find(kind, self.labels, cached=True)
        return [((kind, thing["metadata"]["name"]), thing) for thing in found]


def projected(live: Any, ours: Any) -> Any:
    """`live` at the places where `ours` says something. Lists are ours whole."""
    if isinstance(ours, dict) and isinstance(live, dict):
        return {key: projected(live.get(key), value) for key, value in ours.items()}
    if isinstance(ours, list) and isinstance(live, list):
        beyond = live[len(ours) :]
        return [projected(one, our) for one, our in zip(live, ours, strict=False)] + beyond
    return live


def version(thing: JsonObject) -> Any:
    return thing["metadata"].get("resourceVersion")
