"""Kubernetes: an Indexed Job (batch/v1) whose pods are the nodes, or a TrainJob of Kubeflow Trainer.

A pod that fails is replaced by its controller; the others fail with it, for they wait for it, and all meet again at the
name of the first. So a whole start costs a failure of each pod, and `backoffLimit` is `launch.restarts` times nodes:
here a start that brought a newer checkpoint counts like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.errors import UnreachableError
from configs.section import JsonObject
from infra.engines.job import LOG, Job, State, ended
from infra.kubernetes.api import Cluster, ConflictError

PORT = 29500
MOUNT = "/checkout"  # where the claim lies in a pod; the checkout is its root
NAME = "app.kubernetes.io/name"
QUEUE = "kueue.x-k8s.io/queue-name"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
# Of torch's runtime in Kubeflow Trainer (pkg/constants): where the nodes meet, and which one this is.
FROM_RUNTIME = (
    'export TUNEGATE_RENDEZVOUS="$PET_MASTER_ADDR:$PET_MASTER_PORT" TUNEGATE_NODE="$PET_NODE_RANK"; '
    'export LOG="$0.$PET_NODE_RANK"; '
)
TEE = '"$@" 2>&1 | tee -a "$LOG"'  # the claim keeps what a pod's end would take away


def objects(job: Job) -> list[JsonObject]:
    """What is applied, in this order."""
    return [train_job(job)] if job.launch.kubernetes.kind == "trainjob" else [service(job), indexed_job(job)]


def rendezvous(job: Job) -> str:
    """The first pod's name, which its successor bears too."""
    return f"{job.token}-0.{job.token}.{job.launch.kubernetes.namespace}:{PORT}"


def metadata(job: Job) -> JsonObject:
    queue = job.launch.kubernetes.queue
    labels = {NAME: "tunegate", "app.kubernetes.io/instance": job.token} | ({QUEUE: queue} if queue else {})
    return {"name": job.token, "namespace": job.launch.kubernetes.namespace, "labels": labels}


def service(job: Job) -> JsonObject:
    """Headless: it gives each pod a name, also before it is ready."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"app.kubernetes.io/instance": job.token},
        "ports": [{"name": "rendezvous", "port": PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(job), "spec": spec}


def indexed_job(job: Job) -> JsonObject:
    asked, nodes = job.launch.kubernetes, job.launch.nodes
    log = in_pod(job, job.folder / LOG)
    container = {
        "name": "train",
        "image": asked.image,
        "workingDir": MOUNT,
        "command": ["bash", "-o", "pipefail", "-c", f'export LOG="$0.$TUNEGATE_NODE"; {TEE}', log, *command(job)],
        "env": [
            {"name": "TUNEGATE_RENDEZVOUS", "value": rendezvous(job)},
            {"name": "TUNEGATE_NODE", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
            {"name": "TUNEGATE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "resources": resources(job),
        "volumeMounts": [{"name": "checkout", "mountPath": MOUNT}],
    } | ({"envFrom": [{"secretRef": {"name": asked.secret}}]} if asked.secret else {})
    pod = {
        "restartPolicy": "Never",
        "subdomain": job.token,
        "containers": [container],
        "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": asked.volume}}],
    }
    spec: JsonObject = {
        "completions": nodes,
        "parallelism": nodes,
        "completionMode": "Indexed",
        "backoffLimit": job.launch.restarts * nodes,
        "template": {"metadata": {"labels": metadata(job)["labels"]}, "spec": pod},
    }
    if asked.queue:
        spec["suspend"] = True  # Kueue lets it go
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(job), "spec": spec}


def train_job(job: Job) -> JsonObject:
    """trainer.kubeflow.org/v1alpha1, whose runtime has a replicated job and a container named node."""
    asked, log = job.launch.kubernetes, in_pod(job, job.folder / LOG)
    trainer = {
        "image": asked.image,
        "command": ["bash", "-o", "pipefail", "-c", f"{FROM_RUNTIME}cd {MOUNT} && {TEE}", log, *command(job)],
        "numNodes": job.launch.nodes,
        "numProcPerNode": 1,  # our launcher, which starts the others
        "resourcesPerNode": resources(job),
    }
    mounted = {"name": "node", "volumeMounts": [{"name": "checkout", "mountPath": MOUNT}]}
    pod = {
        "containers": [mounted],
        "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": asked.volume}}],
    }
    node = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    patch = {"manager": "tunegate.dev/train", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}}}
    spec = {"runtimeRef": {"name": asked.runtime}, "trainer": trainer, "runtimePatches": [patch]}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(job),
        "spec": spec | ({"suspend": True} if asked.queue else {}),
    }


def command(job: Job) -> list[str]:
    verb, path = job.words
    return ["tunegate", verb, in_pod(job, path)]


def in_pod(job: Job, path: Path) -> str:
    """Relative to the checkout, in which the pod works."""
    return path.relative_to(job.root).as_posix()


def resources(job: Job) -> JsonObject:
    asked = job.launch.kubernetes
    cpus = asked.cpus_per_node or job.cpus
    wanted: dict[str, Any] = {"cpu": str(cpus)} if cpus else {}
    wanted |= {"memory": asked.memory} if asked.memory else {}
    gpus = {"nvidia.com/gpu": str(asked.gpus_per_node)} if asked.gpus_per_node else {}
    limits = gpus | ({"memory": asked.memory} if asked.memory else {})
    return {"requests": wanted | gpus, "limits": limits}


def submit(job: Job) -> None:
    """Who submits twice finds the first. Raises ExternalError."""
    cluster = cluster_of(job)
    for thing in objects(job):
        try:
            cluster.create(thing)
        except ConflictError:
            continue


def watch(job: Job) -> State:
    """By the conditions of the Job or TrainJob: until one says that it ended, it has not."""
    try:
        found = cluster_of(job).read(kind_of(job), job.token)
    except UnreachableError as error:
        return State("unknown", error.message)
    return ended(job) or (state_of(found) if found else State("gone", "there is no such job"))


def state_of(found: JsonObject) -> State:
    status = found.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or [] if one.get("status") == "True"}
    if "Complete" in conditions:
        return State("succeeded", "complete", 0)
    if failed := conditions.get("Failed"):
        return State("failed", f"failed: {failed.get('reason', '')} {failed.get('message', '')}".strip())
    active = status.get("active") or sum(one.get("active") or 0 for one in status.get("jobsStatus") or [])
    return State("running", f"{active} pods") if active else State("waiting", "no pod yet")


def kind_of(job: Job) -> str:
    return "TrainJob" if job.launch.kubernetes.kind == "trainjob" else "Job"


def logs(job: Job) -> list[Path]:
    return [job.folder / f"{LOG}.{node}" for node in range(job.launch.nodes)]


def cancel(job: Job) -> None:
    """With its pods."""
    cluster = cluster_of(job)
    for thing in objects(job):
        cluster.delete(thing["kind"], thing["metadata"]["name"])


def cluster_of(job: Job) -> Cluster:
    return Cluster(job.launch.kubernetes.namespace, job.launch.kubernetes.context)
