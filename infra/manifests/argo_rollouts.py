"""The servers of an environment as a Rollout of Argo Rollouts (argoproj.io/v1alpha1), blue and green by its own
Services, with an analysis that asks for tunegate's proofs.

An inconclusive proof stays inconclusive: the web provider has a success and a failure condition, and what meets neither
is a pause. Its job provider knows two outcomes only (argo-rollouts#2250, #4393).
"""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.release import Manifest
from configs.section import JsonObject
from infra.kubernetes.containers import budget, facts_of, placement_of, unshared
from infra.kubernetes.labels import RELEASE, labels_of
from infra.kubernetes.probe import PORT
from infra.kubernetes.server_pod import pod_spec, start_seconds
from infra.kubernetes.slot_objects import FETCH_SECONDS, refuse_other_gpus

ARGO = "argoproj.io/v1alpha1"
DELAY_MARGIN_SECONDS = 60  # of the old pods, beyond the deadline of their streams
KEPT_REVISIONS = 2  # that may still drain at once (argo-rollouts#501)


def rollout_objects(config: DeployConfig, manifest: Manifest, proofs: str) -> list[JsonObject]:
    """Rollout, AnalysisTemplate, two Services, PodDisruptionBudget. `proofs`: the address that answers
    {"outcome": "pass" | "fail" | "inconclusive"} of a release, when it knows."""
    refuse_other_gpus(placement_of(config), manifest)
    labels = labels_of(config, "server")
    services = [service(config, f"{config.name}-{which}", labels) for which in ("active", "preview")]
    facts = facts_of(config, config.name, labels)
    return unshared([rollout(config, manifest, labels), analysis(config, proofs), *services, budget(facts, labels)])


def rollout(config: DeployConfig, manifest: Manifest, labels: dict[str, str]) -> JsonObject:
    asked = {"templates": [{"templateName": f"{config.name}-proofs"}]}
    asked["args"] = [{"name": "release", "value": manifest.reference}]
    strategy = {
        "activeService": f"{config.name}-active",
        "previewService": f"{config.name}-preview",
        "autoPromotionEnabled": config.promotion == "auto",
        "prePromotionAnalysis": asked,
        "scaleDownDelaySeconds": config.bake_seconds + config.drain_deadline_seconds + DELAY_MARGIN_SECONDS,
        "scaleDownDelayRevisionLimit": KEPT_REVISIONS,
    }
    marks = {RELEASE: manifest.reference}
    spec = {
        "replicas": placement_of(config).replicas,
        "revisionHistoryLimit": KEPT_REVISIONS,
        "progressDeadlineSeconds": start_seconds(config, manifest) + FETCH_SECONDS,
        "selector": {"matchLabels": labels},
        "strategy": {"blueGreen": strategy},
        "template": {
            "metadata": {"labels": labels, "annotations": marks},
            "spec": without_slot(pod_spec(config, manifest, "blue"), labels),
        },
    }
    facts = facts_of(config, config.name, labels) | {"annotations": marks}
    return {"apiVersion": ARGO, "kind": "Rollout", "metadata": facts, "spec": spec}


def without_slot(spec: JsonObject, labels: dict[str, str]) -> JsonObject:
    """Its pods are not told apart by blue and green: Argo's hash does that."""
    spread = [one | {"labelSelector": {"matchLabels": labels}} for one in spec["topologySpreadConstraints"]]
    return spec | {"topologySpreadConstraints": spread}


def analysis(config: DeployConfig, proofs: str) -> JsonObject:
    """The answer comes when the proofs have ended, so one request may take as long as they may."""
    asked = {
        "url": f"{proofs}?release={{{{args.release}}}}",
        "timeoutSeconds": int(config.supervision.task_deadline_seconds),
        "jsonPath": "{$.outcome}",
    }
    metric = {
        "name": "proofs",
        "count": 1,
        "successCondition": 'result == "pass"',
        "failureCondition": 'result == "fail"',
        "failureLimit": 0,
        "inconclusiveLimit": 0,
        "provider": {"web": asked},
    }
    facts = facts_of(config, f"{config.name}-proofs", labels_of(config, "agent"))
    spec = {"args": [{"name": "release"}], "metrics": [metric]}
    return {"apiVersion": ARGO, "kind": "AnalysisTemplate", "metadata": facts, "spec": spec}


def service(config: DeployConfig, name: str, labels: dict[str, str]) -> JsonObject:
    port = {"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}
    facts = facts_of(config, name, labels)
    spec = {"type": "ClusterIP", "selector": labels, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": facts, "spec": spec}
