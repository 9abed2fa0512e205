"""Does a real API server take what is rendered? Each object by a dry run of server-side apply, which also refuses a key
that it does not know.

The server at hand is of Kubernetes 1.20: budgets are turned into its beta group, and what is no object of Kubernetes'
own (HTTPRoute, ScaledObject, Rollout) is left out. The strict schemas of 1.29 to 1.37 are for the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.cluster.old_cluster import speak_to_old_cluster
from benchmarks.cluster.world import SCRIPT, bring_up, inside
from benchmarks.prove import Row
from configs.environment.config import DeployConfig
from configs.errors import ExternalError, UnreachableError
from configs.read import read_environment
from configs.release import Manifest
from configs.section import JsonObject
from configs.slots import SLOTS, SlotName
from infra.kubernetes.api import PATHS, Cluster
from infra.kubernetes.router_objects import router_objects
from infra.kubernetes.slot_objects import slot_objects
from infra.manifests.access import access_objects
from infra.manifests.agent_objects import Source, agent_objects
from tests.support.cluster_objects import ENVIRONMENTS, MANIFESTS, manifest

NAMESPACE = "default"  # a dry run wants one that is there
EXAMPLES = 40
TRIES = 20
SOURCE = Source("git@git.example:ml/models.git")


def admission() -> list[Row]:
    """In the cluster's network, by a process of its own."""
    if not is_up():
        bring_up()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        subprocess.run([*inside(sys.executable, "-m", "benchmarks.cluster.admission"), str(path)], check=True)
        found = json.loads(path.read_text(encoding="utf8"))
    taken = ", ".join(f"{count} {kind}" for kind, count in sorted(found["taken"].items()))
    name = f"objects of {found['environments']} environments refused by a real API server (taken: {taken})"
    return [Row(name, "; ".join(found["refused"]) or 0, "0", not found["refused"] and bool(found["taken"]))]


def is_up() -> bool:
    said = subprocess.run(["bash", str(SCRIPT), "status"], capture_output=True, text=True, check=False).stdout
    return " Ready " in said


def objects(config: DeployConfig, made: Manifest, slot: SlotName) -> list[JsonObject]:
    found = [*router_objects(config), *access_objects(config), *agent_objects(config, SOURCE)]
    return [*found, *slot_objects(config, made, slot, 2)]


def ask(config: DeployConfig, made: Manifest, slot: SlotName, taken: Counter[str], refused: list[str]) -> None:
    cluster = Cluster(NAMESPACE)
    for thing in objects(config, made, slot):
        if thing["kind"] in PATHS and thing["kind"] != "HTTPRoute":
            thing["metadata"]["namespace"] = NAMESPACE
            try:
                patiently(cluster, thing)
                taken[thing["kind"]] += 1
            except ExternalError as error:
                refused.append(f"{thing['kind']}: {error}")


def patiently(cluster: Cluster, thing: JsonObject) -> None:
    """A server that is busy has refused nothing."""
    for tries_left in reversed(range(TRIES)):
        try:
            cluster.apply(thing, dry=True)
            return
        except UnreachableError:
            if not tries_left:
                raise
            time.sleep(5)


def main() -> None:
    taken, refused, environments = Counter[str](), list[str](), 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ENVIRONMENTS, MANIFESTS, st.sampled_from(SLOTS))
    def drawn(config: DeployConfig, made: Manifest, slot: SlotName) -> None:
        nonlocal environments
        environments += 1
        ask(config, made, slot, taken, refused)

    speak_to_old_cluster()
    ask(read_environment("kubernetes"), manifest(), "blue", taken, refused)
    drawn()
    found = {"environments": environments + 1, "taken": taken, "refused": refused[:20]}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf8")


if __name__ == "__main__":
    main()
