"""A slot in a cluster: a Deployment, its Service and its budget, of one name that bears the release's digest. Nothing
of them is ever changed but the number of replicas; another release is another name."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import RefusedError
from configs.release import Manifest
from configs.section import JsonObject
from configs.slots import SlotName
from infra.kubernetes.containers import budget, facts_of, placement_of, unshared
from infra.kubernetes.labels import RELEASE, labels_of, slot_name
from infra.kubernetes.probe import PORT
from infra.kubernetes.server_pod import pod_spec, start_seconds

GPU = "nvidia.com/gpu"
FETCH_SECONDS = 1800  # until a Deployment counts as stuck, beyond the start itself: images and bytes come first


def slot_objects(config: DeployConfig, manifest: Manifest, slot: SlotName, replicas: int | None) -> list[JsonObject]:
    """Deployment, Service, PodDisruptionBudget. `replicas` None: left to an autoscaler. Raises RefusedError where the
    pods would not have the GPUs that the release needs."""
    refuse_other_gpus(placement_of(config), manifest)
    labels = labels_of(config, "server", slot, manifest.digest)
    marked = {"annotations": {RELEASE: manifest.reference}}
    facts = facts_of(config, slot_name(config, slot, manifest.digest), labels) | marked
    seconds = start_seconds(config, manifest)
    template = {"metadata": {"labels": labels, **marked}, "spec": pod_spec(config, manifest, slot)}
    spec = {
        **({} if replicas is None else {"replicas": replicas}),
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "progressDeadlineSeconds": seconds + FETCH_SECONDS,
        "revisionHistoryLimit": 2,
        "template": template,
    }
    ports = [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}]
    front = {"type": "ClusterIP", "selector": labels, "ports": ports}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": facts, "spec": spec}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": facts, "spec": front}
    return unshared([deployment, service, budget(facts, labels)])


def refuse_other_gpus(placed: Kubernetes, manifest: Manifest) -> None:
    stated, needed = placed.resources.limits.get(GPU), manifest.serving.gpus
    if stated is not None and stated != str(needed):
        raise RefusedError(
            f"{manifest.reference}: each server needs {needed} GPU{'s' * (needed != 1)}; "
            f"found placement.resources.limits {GPU}: {stated}",
            hint=f"placement: {{resources: {{limits: {{{GPU}: {needed}}}}}}}",
        )
