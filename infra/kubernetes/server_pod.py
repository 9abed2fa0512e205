"""The pod of a model server: its release is fetched and verified, vLLM runs with the arguments of production, and it
ends when its last request has."""

from __future__ import annotations

import json
import math
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.release import Manifest
from configs.section import JsonObject
from configs.slots import SlotName
from infra.kubernetes.containers import LOCKED_DOWN, POD_SECURITY, environment, literal, mount, placement_of, spread
from infra.kubernetes.labels import labels_of
from infra.kubernetes.merge import merged
from infra.kubernetes.probe import PORT
from infra.state.start_time import start_timeout
from infra.vllm.arguments import DRAIN_SECONDS, middleware_settings, server_environment, vllm_arguments
from infra.vllm.server import VLLM
from infra.vllm.tracing import trace_arguments, trace_environment, tracing_of
from infra.vllm.usage import UsageSettings

# Where Dockerfile.gpu puts them in the target serve.
PYTHON, SOURCE = "/opt/tunegate/.venv-serve/bin/python", "/opt/tunegate/source"
HOME = "/var/cache/tunegate"
RELEASE_FOLDER, CACHE, BYTES = "/release", "/cache", "/bytes"
SEEN_SECONDS = 5  # so soon every router knows that a pod is terminating: by its watch, else by its next list
MARGIN_SECONDS = 15  # of the grace period, beyond what draining and vLLM's own shutdown may take
START_PERIOD, LOOK_PERIOD = 5, 10
SHARED_MEMORY_GIB = 1  # a GPU: a bound, nothing is reserved


def start_seconds(config: DeployConfig, manifest: Manifest) -> int:
    size = sum(file.size for file in manifest.files)
    return math.ceil(start_timeout(manifest.digest, size, (), config.start_timeout_seconds))


def grace_seconds(config: DeployConfig) -> int:
    """Until a terminating pod is killed: open streams get their deadline, then vLLM its own time."""
    return config.drain_deadline_seconds + DRAIN_SECONDS + MARGIN_SECONDS


def pod_spec(config: DeployConfig, manifest: Manifest, slot: SlotName) -> JsonObject:
    placed = placement_of(config)
    labels = labels_of(config, "server", slot, manifest.digest)
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": grace_seconds(config),
        "topologySpreadConstraints": [spread(labels)],
        "initContainers": [fetch_container(config, manifest)],
        "containers": [server_container(config, manifest, slot)],
        "volumes": volumes(placed, manifest),
        **({"tolerations": placed.tolerations} if placed.tolerations else {}),
        **({"nodeSelector": placed.node_selector} if placed.node_selector else {}),
    }
    return merged(spec, placed.pod)


def volumes(placed: Kubernetes, manifest: Manifest) -> list[JsonObject]:
    cache: JsonObject = {"emptyDir": {}}
    if placed.node_cache:
        cache = {"hostPath": {"path": placed.node_cache, "type": "DirectoryOrCreate"}}
    shared = {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY_GIB * manifest.serving.gpus}Gi"}
    found = [
        {"name": "release", "emptyDir": {}},
        {"name": "cache", **cache},
        {"name": "tmp", "emptyDir": {}},
        {"name": "home", "emptyDir": {}},
        {"name": "shm", "emptyDir": shared},
    ]
    if placed.bytes.startswith("pvc://"):
        claim = {"claimName": placed.bytes.removeprefix("pvc://").partition("/")[0], "readOnly": True}
        found.append({"name": "bytes", "persistentVolumeClaim": claim})
    return found


def fetch_container(config: DeployConfig, manifest: Manifest) -> JsonObject:
    """The release's bytes, each file verified. A node's folder is root's, as the kubelet makes it, so that no server
    may change what others load; without a capability root may do no more than write there."""
    placed, source, mounts = placement_of(config), placement_of(config).bytes, [mount("tmp", "/tmp")]
    if source.startswith("pvc://"):
        folder = source.removeprefix("pvc://").partition("/")[2]
        source, mounts = f"{BYTES}/{folder}".rstrip("/"), [*mounts, mount("bytes", BYTES, read_only=True)]
    as_root = {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0} if placed.node_cache else {}
    words = ["fetch", manifest.reference, "--to", RELEASE_FOLDER, "--from", source, "--cache", CACHE]
    return {
        "name": "fetch",
        "image": placed.agent_image,
        "command": literal(["tunegate", *words]),
        "env": environment({"HOME": "/tmp"}),
        "envFrom": [{"secretRef": {"name": f"{config.name}-bytes", "optional": True}}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": LOCKED_DOWN | as_root,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount("release", RELEASE_FOLDER), mount("cache", CACHE), *mounts],
    }


def server_container(config: DeployConfig, manifest: Manifest, slot: SlotName) -> JsonObject:
    placed = placement_of(config)
    traced = tracing_of(config, slot, manifest.reference)
    words = vllm_arguments(
        Path(RELEASE_FOLDER), placed_manifest(placed, manifest), port=PORT, served_name=config.model, host="0.0.0.0",
        metered=True,
    )  # fmt: skip
    # No line a request: what a pod writes is lost with it.
    metered: UsageSettings = {"folder": "", "slot": slot, "release": manifest.reference}
    given = server_environment(manifest) | trace_environment(traced) | {"HOME": HOME, "PYTHONPATH": SOURCE}
    given |= middleware_settings(manifest, config.model, None, metered, hot=False)
    given |= {} if uses_gpu(placed) else {"NVIDIA_VISIBLE_DEVICES": "void"}  # of the image: all, requested or not
    resources = placed.resources.model_dump()
    return {
        "name": "vllm",
        "image": placed.image,
        "command": literal([PYTHON, "-m", VLLM, *words, *trace_arguments(traced)]),
        "env": environment(given),
        "lifecycle": {"preStop": {"exec": {"command": drain_command(config)}}},
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        **({"resources": kept} if (kept := {key: value for key, value in resources.items() if value}) else {}),
        "securityContext": LOCKED_DOWN,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            mount("release", RELEASE_FOLDER, read_only=True),
            mount("cache", CACHE, read_only=True),
            mount("tmp", "/tmp"),
            mount("home", HOME),
            mount("shm", "/dev/shm"),
        ],
        "workingDir": "/tmp",
        **probes(config, manifest),
    }


def placed_manifest(placed: Kubernetes, manifest: Manifest) -> Manifest:
    """Its `device: auto` is the pods', whatever machine renders this."""
    if manifest.serving.device != "auto":
        return manifest
    serving = manifest.serving.model_copy(update={"device": "cuda" if uses_gpu(placed) else "cpu"})
    return manifest.model_copy(update={"serving": serving})


def uses_gpu(placed: Kubernetes) -> bool:
    """nvidia.com/gpu, or an instance of one (nvidia.com/mig-…)."""
    asked = {*placed.resources.limits, *placed.resources.requests}
    return any(name.startswith("nvidia.com/") for name in asked)


def probe_command(*words: str) -> list[str]:
    return [PYTHON, "-I", "-S", f"{SOURCE}/infra/kubernetes/probe.py", *words]


def drain_command(config: DeployConfig) -> list[str]:
    looks = config.supervision
    hung = math.ceil(looks.probe_timeout_seconds * looks.probe_failures)
    return probe_command("drain", str(SEEN_SECONDS), str(config.drain_deadline_seconds), str(hung))


def probes(config: DeployConfig, manifest: Manifest) -> JsonObject:
    """Each wants a real answer, if only of one token, or that it gets on with its users' requests."""
    looks = config.supervision
    path, body = tiny_request(config.model, manifest)
    command = probe_command("answers", path, json.dumps(body), f"{looks.probe_timeout_seconds:g}")
    probe = {"exec": {"command": literal(command)}, "timeoutSeconds": math.ceil(looks.probe_timeout_seconds) + 5}
    starts = {
        "periodSeconds": START_PERIOD,
        "failureThreshold": math.ceil(start_seconds(config, manifest) / START_PERIOD),
    }
    return {
        "startupProbe": probe | starts,
        "readinessProbe": probe | {"periodSeconds": LOOK_PERIOD, "failureThreshold": 1},
        "livenessProbe": probe | {"periodSeconds": LOOK_PERIOD, "failureThreshold": looks.probe_failures},
    }


def tiny_request(served_name: str, manifest: Manifest) -> tuple[str, JsonObject]:
    """Path and body of the least that it can be asked."""
    if manifest.task == "sequence-classification":
        return "/classify", {"model": served_name, "input": ["a"]}
    if manifest.task == "token-classification":
        return "/pooling", {"model": served_name, "input": "a", "task": "token_classify"}
    return "/v1/completions", {"model": served_name, "prompt": "a", "max_tokens": 1, "temperature": 0}
