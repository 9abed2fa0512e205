"""The agent in a cluster: one pod that follows a branch of git, and a volume that keeps its clone and its record."""

from __future__ import annotations

import re
from dataclasses import dataclass

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.section import JsonObject
from infra.kubernetes.containers import (
    LOCKED_DOWN,
    POD_SECURITY,
    environment,
    facts_of,
    literal,
    mount,
    placement_of,
    unshared,
)
from infra.kubernetes.labels import labels_of

KEPT = "/var/lib/tunegate"  # the volume
CHECKOUT, STATE, GIT = f"{KEPT}/checkout", f"{KEPT}/state", "/etc/tunegate/git"
GRACE_SECONDS = 60  # it ends alone: what serves is not its child
# Killed in the middle, the next pod clones anew.
CLONE = """set -eu
cd "$KEPT"
test -d checkout && exit 0
rm -rf checkout.new
git clone --quiet --branch "$BRANCH" -- "$REPOSITORY" checkout.new
mv checkout.new checkout
"""
# Lines username=… and password=…, as git-credential(1) has them; without the file git asks nobody.
CREDENTIALS = f'!f() {{ test "$1" = get && cat {GIT}/credentials 2>/dev/null || true; }}; f'
SSH = (
    f"ssh -i {GIT}/ssh-privatekey -o IdentitiesOnly=yes -o UserKnownHostsFile={GIT}/known_hosts "
    "-o BatchMode=yes -o ConnectTimeout=10"
)
WITH_PASSWORD = re.compile(r"^[a-z+]+://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class Source:
    """The branch that the agent follows. `signed`: only commits that a key of the Secret's allowed_signers signed."""

    repository: str
    branch: str = "main"
    signed: bool = False
    storage: str = "50Gi"  # the clone, the releases that it verifies, the record

    def __post_init__(self) -> None:
        if WITH_PASSWORD.match(self.repository):
            raise InputError(
                "the repository's address holds a password, which every reader of the manifests would see",
                hint="kubectl create secret generic ENV-git --from-file=credentials",
            )


def agent_objects(config: DeployConfig, source: Source) -> list[JsonObject]:
    """Deployment, PersistentVolumeClaim; a Service and a NetworkPolicy where it says its figures."""
    labels = labels_of(config, "agent")
    facts = facts_of(config, f"{config.name}-agent", labels)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": source.storage}}}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 2,
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(config, source)},
    }
    return unshared(
        [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": facts, "spec": spec},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": facts, "spec": claim},
            *front(config, facts, labels),
        ]
    )


def front(config: DeployConfig, facts: JsonObject, labels: dict[str, str]) -> list[JsonObject]:
    """Prometheus and an autoscaler ask it; nobody else has a reason to."""
    number = config.supervision.metrics_port
    ingress = [] if number is None else [{"ports": [{"port": number, "protocol": "TCP"}]}]
    policy = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": ingress}
    found: list[JsonObject] = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": facts, "spec": policy}
    ]
    if number is not None:
        port = {"name": "metrics", "port": number, "protocol": "TCP", "targetPort": "metrics"}
        spec = {"type": "ClusterIP", "selector": labels, "ports": [port]}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": facts, "spec": spec})
    return found


def pod_spec(config: DeployConfig, source: Source) -> JsonObject:
    given = {"KEPT": KEPT, "REPOSITORY": source.repository, "BRANCH": source.branch, "HOME": "/tmp"}
    clone = {
        "name": "checkout",
        "image": placement_of(config).agent_image,
        "command": literal(["sh", "-c", CLONE]),
        "env": environment(given | git_environment()),
        "securityContext": LOCKED_DOWN,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(),
    }
    name = f"{config.name}-agent"
    return {
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "initContainers": [clone],
        "containers": [container(config, source)],
        "volumes": [
            {"name": "kept", "persistentVolumeClaim": {"claimName": name}},
            {"name": "git", "secret": {"secretName": f"{config.name}-git", "optional": True, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def container(config: DeployConfig, source: Source) -> JsonObject:
    """Credentials of git, of the stores and of GitLab are the Secrets' ENV-git and ENV-agent; the routers' token is
    that of ENV-router."""
    words = ["agent", config.name, "--pull", f"origin/{source.branch}"]
    words += ["--signers", f"{GIT}/allowed_signers"] if source.signed else []
    number = config.supervision.metrics_port
    token = {"secretKeyRef": {"name": f"{config.name}-router", "key": "TUNEGATE_ROUTER_TOKEN"}}
    key = {"secretKeyRef": {"name": f"{config.name}-router", "key": config.router.api_key_env}}
    given = environment(
        {"HOME": "/tmp", "TUNEGATE_STATE_HOME": STATE, "TUNEGATE_CACHE_HOME": f"{KEPT}/cache"} | git_environment()
    )
    given += [{"name": "TUNEGATE_POD_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    given += [{"name": "TUNEGATE_ROUTER_TOKEN", "valueFrom": token}]
    given += [{"name": config.router.api_key_env, "valueFrom": key}]
    return {
        "name": "agent",
        "image": placement_of(config).agent_image,
        "command": literal(["tunegate", *words]),
        "env": given,
        "envFrom": [{"secretRef": {"name": f"{config.name}-agent", "optional": True}}],
        **({} if number is None else {"ports": [{"name": "metrics", "containerPort": number, "protocol": "TCP"}]}),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
        "securityContext": LOCKED_DOWN,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(),
        "workingDir": CHECKOUT,
    }


def mounts() -> list[JsonObject]:
    return [mount("kept", KEPT), mount("git", GIT, read_only=True), mount("tmp", "/tmp")]


def git_environment() -> dict[str, str]:
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": CREDENTIALS,
        "GIT_SSH_COMMAND": SSH,
        "GIT_TERMINAL_PROMPT": "0",
    }
