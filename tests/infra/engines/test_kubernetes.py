"""What is rendered is what the schemas of Kubernetes 1.29 to 1.37 and of Kubeflow Trainer name, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.training.launch import Launch
from infra.engines import kubernetes
from infra.engines.job import Job

pytestmark = pytest.mark.unit
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?\Z")
SECTIONS = st.fixed_dictionaries(
    {"image": st.just("registry/x@sha256:" + "0" * 64), "volume": NAMES, "namespace": NAMES},
    optional={
        "secret": NAMES,
        "queue": NAMES,
        "memory": st.sampled_from(["64Gi", "1.5Ti", "512"]),
        "gpus_per_node": st.integers(0, 8),
        "cpus_per_node": st.integers(1, 64),
    },
)


def job_of(section: dict[str, Any], kind: str, nodes: int = 2, restarts: int = 3) -> Job:
    launch = {"engine": "kubernetes", "nodes": nodes, "restarts": restarts, "kubernetes": section | {"kind": kind}}
    root = Path("/somewhere")
    folder = root / "build/x/launch/job"
    return Job("tunegate-x-0123abcd", folder, root / "build/x/checkpoints", Launch.model_validate(launch), root)


@given(section=SECTIONS, nodes=st.integers(1, 20), version=st.sampled_from(VERSIONS))
def test_a_job_is_strictly_valid_in_every_version(section: dict[str, Any], nodes: int, version: str) -> None:
    from kubernetes_validate import validate

    service, job = kubernetes.objects(job_of(section, "job", nodes))
    for thing in (service, job):
        validate(thing, version, strict=True)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] == nodes and spec["backoffLimit"] == 3 * nodes
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert spec.get("suspend", False) == ("queue" in section)


@given(section=SECTIONS, nodes=st.integers(1, 20))
def test_a_train_job_is_one_of_kubeflow_trainers_and_nothing_is_left_over(section: dict[str, Any], nodes: int) -> None:
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    section = {name: value for name, value in section.items() if name != "secret"}
    (thing,) = kubernetes.objects(job_of(section, "trainjob", nodes))
    parsed = TrainerV1alpha1TrainJob.from_dict(thing)
    assert parsed is not None and parsed.to_dict() == thing


def test_the_nodes_meet_at_the_first_pods_name_and_each_knows_its_own() -> None:
    job = job_of({"image": "i", "volume": "v", "namespace": "ml"}, "job")
    container = kubernetes.indexed_job(job)["spec"]["template"]["spec"]["containers"][0]
    environment = {one["name"]: one for one in container["env"]}
    assert environment["TUNEGATE_RENDEZVOUS"]["value"] == "tunegate-x-0123abcd-0.tunegate-x-0123abcd.ml:29500"
    assert "job-completion-index" in environment["TUNEGATE_NODE"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert container["command"][-3:] == ["tunegate", "train", "build/x/launch/job/config.json"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({}, "waiting"),
        ({"active": 2}, "running"),
        ({"jobsStatus": [{"name": "node", "active": 2}]}, "running"),
        ({"active": 1, "conditions": [{"type": "Failed", "status": "False"}]}, "running"),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "succeeded"),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}, "failed"),
    ],
)
def test_it_has_ended_when_a_condition_says_so(status: dict[str, Any], kind: str) -> None:
    assert kubernetes.state_of({"status": status}).kind == kind
