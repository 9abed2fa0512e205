"""An environment in the real two-node cluster of ../shared/cluster: real vLLM in the pods, from this checkout, for no
image registry is at hand. Each pod sees the checkout and its interpreter through the node's own file system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from configs.section import JsonObject
from infra.kubernetes.api import Cluster
from tests.paths import ROOT

SCRIPT = ROOT.parent / "shared/cluster/cluster"
HOME = Path(os.environ.get("K8S_DIR") or Path.home() / ".cache/k8s")
NAMESPACE = "models"
IMAGE = "registry.example/tunegate@sha256:" + "0" * 64  # the schema wants a digest; the pods of this cluster say base:1
INTERPRETER = Path(os.path.realpath(sys.base_prefix))
HERE = {"image": "base:1", "imagePullPolicy": "Never"}
PATH = f"{ROOT}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
AS_ROOT = {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}  # what is mounted is root's


class NoClusterError(ExternalError):
    """It is not on this machine."""


def cluster(*words: str) -> subprocess.CompletedProcess[bytes]:
    if not SCRIPT.exists():
        raise NoClusterError(f"{SCRIPT}: not there", hint="a checkout beside shared/, as root, on Debian")
    return subprocess.run(["bash", str(SCRIPT), *words], env=os.environ | {"K8S_DIR": str(HOME)}, check=True)


def bring_up() -> None:
    """Built once a machine: about 12 minutes of a CPU."""
    if not (HOME / "bin/kube-apiserver").exists() or not (HOME / "img/base.tar").exists():
        cluster("build")
    cluster("up")


def inside(*words: str) -> list[str]:
    """The command that runs in the cluster's network, where pods and Services have their addresses."""
    return ["env", f"K8S_DIR={HOME}", "bash", str(SCRIPT), "sh", *words]


def volumes() -> dict[str, list[JsonObject]]:
    """What a pod of ours needs of this machine, and where it sees it."""
    seen = {
        "usr": (Path("/usr"), "/usr"),  # g++ and libnuma, which vLLM wants on a CPU and the image serve has
        "checkout": (ROOT, str(ROOT)),
        "interpreter": (INTERPRETER, str(INTERPRETER)),
        "serve": (ROOT / ".venv-serve", "/opt/tunegate/.venv-serve"),
        "source": (ROOT, "/opt/tunegate/source"),
    }
    return {
        "volumes": [{"name": name, "hostPath": {"path": os.path.realpath(path)}} for name, (path, _) in seen.items()],
        "volumeMounts": [{"name": name, "mountPath": at, "readOnly": True} for name, (_, at) in seen.items()],
    }


def pod_of_this_checkout(*, init: list[str], containers: list[str]) -> JsonObject:
    """What `placement.pod` changes of a pod."""
    found = volumes()
    change = HERE | {"volumeMounts": found["volumeMounts"], "securityContext": AS_ROOT}
    change["env"] = [{"name": "PATH", "value": PATH}]
    return {
        "securityContext": AS_ROOT | {"fsGroup": 0},
        "initContainers": [{"name": name} | change for name in init],
        "containers": [{"name": name} | change for name in containers],
        "volumes": found["volumes"],
    }


def placement(folder: Path, **facts: Any) -> JsonObject:
    """`folder`: of the releases, which a claim of the namespace holds."""
    return {
        "kind": "kubernetes",
        "namespace": NAMESPACE,
        "image": IMAGE,
        "agent_image": IMAGE,
        "bytes": "pvc://releases",
        "node_cache": str(HOME / "node-cache"),
        "pod": pod_of_this_checkout(init=["fetch"], containers=["vllm"]),
    } | facts


@contextmanager
def namespace(folder: Path) -> Iterator[Cluster]:
    """New, with a claim of `folder`; it and all that it holds is gone afterwards."""
    found = Cluster(NAMESPACE)
    kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    kubectl("delete", "pv", "releases", "--ignore-not-found")
    kubectl("create", "namespace", NAMESPACE)
    facts = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "10Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "releases"},
        "spec": facts | {"capacity": size, "hostPath": {"path": str(folder)}},
    }
    subprocess.run([str(HOME / "bin/kubectl"), "apply", "-f", "-"], input=json_of(volume), text=True, check=True)
    found.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "releases"},
            "spec": facts | {"volumeName": "releases", "resources": {"requests": size}},
        }
    )
    try:
        yield found
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def kubectl(*words: str) -> None:
    subprocess.run([str(HOME / "bin/kubectl"), *words], check=True, stdout=sys.stderr)


def json_of(thing: JsonObject) -> str:
    import json

    return json.dumps(thing)
