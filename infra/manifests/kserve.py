"""The servers of an environment as an InferenceService of KServe (serving.kserve.io/v1beta1), by a predictor of our own
container: its fetch, its arguments, its probes and its drain stay ours."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.release import Manifest
from configs.section import JsonObject
from infra.kubernetes.containers import facts_of, placement_of, unshared
from infra.kubernetes.labels import RELEASE, labels_of
from infra.kubernetes.server_pod import pod_spec
from infra.kubernetes.slot_objects import refuse_other_gpus
from infra.manifests.argo_rollouts import without_slot

CONTAINER = "kserve-container"  # by which KServe knows the one that serves
MODE = "serving.kserve.io/deploymentMode"


def inference_service(config: DeployConfig, manifest: Manifest) -> list[JsonObject]:
    """In its mode without Knative, which would end a long stream and scale by its own count."""
    placed = placement_of(config)
    refuse_other_gpus(placed, manifest)
    labels = labels_of(config, "server")
    spec = without_slot(pod_spec(config, manifest, "blue"), labels)
    server, *others = spec["containers"]
    predictor = spec | {
        "containers": [server | {"name": CONTAINER}, *others],
        "labels": labels,
        "minReplicas": placed.replicas,
        "maxReplicas": placed.most,
    }
    marks = {RELEASE: manifest.reference}
    facts = facts_of(config, config.name, labels) | {"annotations": marks | {MODE: "RawDeployment"}}
    found = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": facts,
        "spec": {"predictor": predictor | {"annotations": marks}},
    }
    return unshared([found])
