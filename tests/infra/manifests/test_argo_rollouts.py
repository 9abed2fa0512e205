"""What is rendered for engines that others keep: their schemas, three outcomes of an analysis, no pod killed early."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.release import Manifest
from configs.section import JsonObject
from infra.kubernetes.autoscaling import scaled_object
from infra.kubernetes.router_objects import router_objects
from infra.kubernetes.slot_objects import slot_objects
from infra.manifests.argo_rollouts import rollout_objects
from infra.manifests.kserve import inference_service
from tests.support.cluster_objects import ENVIRONMENTS, MANIFESTS, VERSIONS, crd_faults, environment, faults, manifest

pytestmark = pytest.mark.unit
PROOFS = "http://proofs.ml.svc:8406/proofs"


def customs(config: DeployConfig, made: Manifest) -> list[JsonObject]:
    """Those that are no object of Kubernetes' own."""
    found = [*router_objects(config), *rollout_objects(config, made, PROOFS)]
    found += [scaled_object(config, made, "blue")]
    return [thing for thing in found if thing["kind"] in ("HTTPRoute", "Rollout", "AnalysisTemplate", "ScaledObject")]


def test_the_projects_own_schemas_take_them() -> None:
    route = {"gateway": "edge/public", "hostnames": ["llm.example.com"]}
    things = customs(environment({"max_replicas": 4, "route": route}), manifest())
    assert [thing["kind"] for thing in things] == ["HTTPRoute", "Rollout", "AnalysisTemplate", "ScaledObject"]
    assert crd_faults(things) == [[]] * 4


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("HTTPRoute", ["spec", "rules", 0, "timeouts", "request"], "soon"),
        ("Rollout", ["spec", "strategy", "blueGreen", "activeService"], None),
        ("AnalysisTemplate", ["spec", "metrics", 0, "provider", "web", "timeoutSeconds"], "3"),
        ("ScaledObject", ["spec", "maxReplicaCount"], "4"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(kind: str, path: list[Any], value: object) -> None:
    """Else the tests here could not fail."""
    things = customs(environment({"route": {"gateway": "public"}}), manifest())
    thing = copy.deepcopy(next(one for one in things if one["kind"] == kind))
    place = thing
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert crd_faults([thing]) != [[]]


@settings(max_examples=10)
@given(st.lists(st.tuples(ENVIRONMENTS, MANIFESTS), min_size=5, max_size=20))
def test_whatever_an_environment_says_they_take(cases: list[tuple[DeployConfig, Manifest]]) -> None:
    things = [thing for config, made in cases for thing in customs(config, made)]
    assert [fault for found in crd_faults(things) for fault in found] == []


@settings(max_examples=30)
@given(ENVIRONMENTS, MANIFESTS, st.sampled_from(VERSIONS))
def test_what_of_them_is_kubernetes_own_is_strictly_valid(config: DeployConfig, made: Manifest, version: str) -> None:
    things = rollout_objects(config, made, PROOFS)
    own = [thing for thing in things if not thing["apiVersion"].startswith("argoproj.io")]
    (service,) = inference_service(config, made)
    predictor = service["spec"]["predictor"]
    ours = {"minReplicas", "maxReplicas", "labels", "annotations"}  # KServe's, beside a PodSpec's
    spec = {key: value for key, value in predictor.items() if key not in ours}
    pods = [spec, next(thing for thing in things if thing["kind"] == "Rollout")["spec"]["template"]["spec"]]
    own += [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod} for pod in pods]
    assert [fault for thing in own for fault in faults(thing, version)] == []


def test_an_inconclusive_proof_meets_neither_condition() -> None:
    template = next(
        one for one in rollout_objects(environment(), manifest(), PROOFS) if one["kind"] == "AnalysisTemplate"
    )
    (metric,) = template["spec"]["metrics"]
    assert set(metric["provider"]) == {"web"}
    passes, fails = metric["successCondition"], metric["failureCondition"]
    meets = {
        word: (meets_condition(passes, word), meets_condition(fails, word)) for word in ("pass", "fail", "inconclusive")
    }
    assert meets == {"pass": (True, False), "fail": (False, True), "inconclusive": (False, False)}
    assert metric["inconclusiveLimit"] == 0


def meets_condition(expression: str, result: str) -> bool:
    """Equality of two texts is the same in Argo's language of expressions and in Python."""
    return bool(eval(expression, {"__builtins__": {}}, {"result": result}))


def test_no_pod_is_taken_while_its_streams_have_time() -> None:
    config = environment(drain_deadline_seconds=900, bake_seconds=30)
    strategy = rollout_objects(config, manifest(), PROOFS)[0]["spec"]["strategy"]["blueGreen"]
    assert strategy["scaleDownDelaySeconds"] >= 900 and strategy["scaleDownDelayRevisionLimit"] == 2


@pytest.mark.parametrize(("promotion", "automatic"), [("auto", True), ("manual", False)])
def test_a_person_promotes_where_the_yaml_says_so(promotion: str, automatic: bool) -> None:
    strategy = rollout_objects(environment(promotion=promotion), manifest(), PROOFS)[0]["spec"]["strategy"]
    assert strategy["blueGreen"]["autoPromotionEnabled"] is automatic


def test_the_container_is_the_same_whoever_keeps_the_pods() -> None:
    config, made = environment(), manifest()
    ours = slot_objects(config, made, "blue", 1)[0]["spec"]["template"]["spec"]
    argo = rollout_objects(config, made, PROOFS)[0]["spec"]["template"]["spec"]
    (kserve,) = inference_service(config, made)
    assert argo["containers"] == ours["containers"] and argo["initContainers"] == ours["initContainers"]
    (container,) = kserve["spec"]["predictor"]["containers"]
    assert container == ours["containers"][0] | {"name": "kserve-container"}
    assert "tunegate.dev/slot" not in str(argo["topologySpreadConstraints"])
