"""Effects on a slot that is pods: applied, taken away, and put back as they were applied."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.release import Manifest
from configs.slots import SlotName
from infra.kubernetes.slot import PORT, end_slot_pods
from infra.kubernetes.slot import start_pods as apply_pods
from infra.kubernetes.slot_objects import slot_objects
from serve.record.environment import Environment
from serve.record.facts import Started, Starting


def is_in_cluster(config: DeployConfig) -> bool:
    return isinstance(config.placement, Kubernetes)


def start_pods(env: Environment, slot: SlotName, manifest: Manifest) -> None:
    """Of a release whose every byte is verified here; each pod verifies its own again. The intent is on disk before an
    object is; what an earlier start of the same release applied is taken over."""
    placement = env.config.placement
    assert isinstance(placement, Kubernetes)
    objects = slot_objects(env.config, manifest, slot, max(1, placement.replicas))
    name = objects[0]["metadata"]["name"]
    env.report_progress(f"start {manifest.reference[:40]}… in {slot}: Deployment {name} of {placement.namespace}")
    starting: Starting = {"release": manifest.reference}
    env.record.append("starting", slot, **starting)
    stand_down(env, slot)
    end_slot_pods(env.config, slot, env.config.drain_deadline_seconds, but=name)
    env.router.set_release(slot, manifest.digest, manifest.created_seconds)
    facts: Started = {"pods": apply_pods(env.config, slot, objects), "port": PORT}
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
