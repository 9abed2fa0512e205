"""Effects on a slot that is pods: applied, taken away, and put back as they were applied."""

from __future__ import annotations

from dataclasses import dataclass

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.release import Manifest, read_manifest
from configs.section import JsonObject
from configs.slots import SLOTS, SlotName
from infra.background import BackgroundTask
from infra.dvc.releases import folder_of
from infra.kubernetes.autoscaling import scaled_object
from infra.kubernetes.heal import Healer
from infra.kubernetes.labels import labels_of
from infra.kubernetes.probe import PORT
from infra.kubernetes.router_objects import router_objects
from infra.kubernetes.slot import SlotPods, cluster_of, end_slot_pods
from infra.kubernetes.slot import start_pods as apply_pods
from infra.kubernetes.slot_objects import slot_objects
from serve.record.environment import Environment
from serve.record.facts import Started, Starting
from serve.record.state import State


@dataclass
class PodsHealing:
    """Hand edits of what the agent applied are undone, beside its turns."""

    healer: Healer
    task: BackgroundTask[list[str]]

    @classmethod
    def of(cls, config: DeployConfig) -> PodsHealing:
        every = config.supervision.interval_seconds
        return cls(Healer(cluster_of(config), labels_of(config)), BackgroundTask(every, longest_seconds=every))

    def look(self, env: Environment, state: State, leaving: SlotName | None) -> list[str]:
        """What the last look put back, by kind and name; then the next one begins. `leaving`: the slot whose pods a
        task is about to start or to end. Raises ExternalError."""
        healed = self.task.result() or []
        self.task.begin(lambda: self.healer.heal(objects_of(env, state, leaving)))
        return healed


def objects_of(env: Environment, state: State, leaving: SlotName | None) -> list[JsonObject]:
    """The routers' and those of each slot that has pods; the one that serves may have an autoscaler. A Deployment that
    is gone is a crash, and is started again by the plan."""
    found = router_objects(env.config)
    for slot in SLOTS:
        pods, release = env.server(state, slot), state.release_of(slot)
        if slot == leaving or release is None or not isinstance(pods, SlotPods) or not pods.is_alive():
            continue
        manifest = read_manifest(folder_of(release) / "release")
        if slot == state.active and replicas_of(env.config) is None:
            found.append(scaled_object(env.config, manifest, slot))
        for thing in slot_objects(env.config, manifest, slot, replicas_of(env.config)):
            is_front = thing["kind"] == "Service"
            found.append(thing | {"spec": thing["spec"] | {"clusterIP": pods.address}} if is_front else thing)
    return found


def replicas_of(config: DeployConfig) -> int | None:
    """None: an autoscaler's."""
    placement = config.placement
    assert isinstance(placement, Kubernetes)
    return None if placement.max_replicas is not None else placement.replicas


def open_routers(env: Environment) -> None:
    """Their objects are applied; they open by themselves."""
    for thing in router_objects(env.config):
        cluster_of(env.config).apply(thing)


def close_routers(env: Environment) -> None:
    """Those that are pods: their own end lets open streams go on."""
    if is_in_cluster(env.config):
        for thing in router_objects(env.config):
            cluster_of(env.config).delete(thing["kind"], thing["metadata"]["name"])


def is_in_cluster(config: DeployConfig) -> bool:
    return isinstance(config.placement, Kubernetes)


def start_pods(env: Environment, slot: SlotName, manifest: Manifest) -> None:
    """Of a release whose every byte is verified here; each pod verifies its own again. The intent is on disk before an
    object is; what an earlier start of the same release applied is taken over."""
    placement, replicas = env.config.placement, replicas_of(env.config)
    assert isinstance(placement, Kubernetes)
    objects = slot_objects(env.config, manifest, slot, replicas)
    first = max(1, placement.replicas) if replicas is None else None  # what is to be proven has a pod
    name = objects[0]["metadata"]["name"]
    env.report_progress(f"start {manifest.reference[:40]}… in {slot}: Deployment {name} of {placement.namespace}")
    starting: Starting = {"release": manifest.reference}
    env.record.append("starting", slot, **starting)
    stand_down(env, slot)
    end_slot_pods(env.config, slot, env.config.drain_deadline_seconds, but=name)
    env.router.set_release(slot, manifest.digest, manifest.created_seconds)
    facts: Started = {"pods": apply_pods(env.config, slot, objects, first), "port": PORT}
    env.record.append("started", slot, **facts)


def stand_down(env: Environment, slot: SlotName) -> None:
    """Before its server is another one, or none."""
    if env.router.is_running():
        env.router.set_standbys(env.router.standbys() - {slot})


def end_pods(env: Environment, slot: SlotName, seconds: float) -> None:
    """Each pod ends as it is meant to: with its last request, or at its own deadline."""
    left = end_slot_pods(env.config, slot, seconds)
    if left:
        env.report_progress(f"{slot}: {left} pods are still ending")
