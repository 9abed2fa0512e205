"""How many pods a slot has, by what its callers wait for: a KEDA ScaledObject. Every request goes through the routers,
so what is open there is what runs and waits at the servers, and what a router holds while there is none."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.release import Manifest
from configs.section import JsonObject
from configs.slots import SlotName
from infra.kubernetes.containers import facts_of, placement_of, unshared
from infra.kubernetes.labels import labels_of, slot_name

LOAD_PATH = "/load"  # of the agent, beside /metrics: {"blue": 3, "green": 0}, requests that are open or held
FULL_SHARE = 0.75  # of max_num_seqs, at which another pod is wanted: beyond it requests wait
POLLING_SECONDS = 2  # while there is no pod: as long as a first caller waits for it to be noticed
QUIET_SECONDS = 300  # without a request, before the last pod goes; and before a busy slot gets smaller
FEWER_PODS, FEWER_SECONDS = 1, 60  # at a time: each drains


def scaled_object(config: DeployConfig, manifest: Manifest, slot: SlotName) -> JsonObject:
    """Of the slot that serves; one that is proven has no caller and would be taken for idle. Without an answer of the
    agent KEDA changes nothing, for there is no `fallback`."""
    placed = placement_of(config)
    name, port = slot_name(config, slot, manifest.digest), config.supervision.metrics_port
    assert port is not None  # configs/environment/config.py refuses max_replicas without
    wanted = max(1, int(manifest.serving.max_num_seqs * FULL_SHARE))
    asked = {
        "url": f"http://{config.name}-agent.{placed.namespace}.svc:{port}{LOAD_PATH}",
        "valueLocation": slot,
        "targetValue": str(wanted),
        "activationTargetValue": "0",
    }
    fewer = {"type": "Pods", "value": FEWER_PODS, "periodSeconds": FEWER_SECONDS}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": QUIET_SECONDS, "policies": [fewer]}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicaCount": placed.replicas,
        "maxReplicaCount": placed.most,
        "pollingInterval": POLLING_SECONDS,
        "cooldownPeriod": QUIET_SECONDS,
        "advanced": {"horizontalPodAutoscalerConfig": {"name": name, "behavior": behavior}},
        "triggers": [{"type": "metrics-api", "metricType": "AverageValue", "metadata": asked}],
    }
    facts = facts_of(config, name, labels_of(config, "server", slot, manifest.digest))
    found = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": facts, "spec": spec}
    return unshared([found])[0]
