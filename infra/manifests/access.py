"""What routers and the agent may do in their namespace, and no more. A person applies these: the agent does not extend
its own rights."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from configs.section import JsonObject
from infra.kubernetes.containers import facts_of, placement_of, unshared
from infra.kubernetes.labels import Part, labels_of
from infra.router_pods.told import told_name

LOOK = ["get", "list", "watch"]
KEEP = [*LOOK, "create", "patch", "update", "delete"]
RBAC = "rbac.authorization.k8s.io"


def access_objects(config: DeployConfig) -> list[JsonObject]:
    """A ServiceAccount, a Role and a RoleBinding of each."""
    return unshared([*of_part(config, "agent", agent_rules(config)), *of_part(config, "router", router_rules(config))])


def router_rules(config: DeployConfig) -> list[JsonObject]:
    """The slots' pods, and where traffic goes."""
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": LOOK},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [told_name(config)], "verbs": ["get"]},
    ]


def agent_rules(config: DeployConfig) -> list[JsonObject]:
    """What it applies and puts back; pods that hang, and which of them goes first. No secret but the one that
    tells routers where traffic goes, and whose keys are valid."""
    placed = placement_of(config)
    told = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [told_name(config)]}
    rules = [
        told | {"verbs": ["get", "create", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": KEEP},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": KEEP},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": KEEP},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": KEEP},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": KEEP},
        {"apiGroups": [""], "resources": ["pods"], "verbs": [*LOOK, "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    if placed.route:
        rules.append({"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": KEEP})
    if placed.max_replicas:
        rules.append({"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": KEEP})
    return rules


def of_part(config: DeployConfig, part: Part, rules: list[JsonObject]) -> list[JsonObject]:
    facts = facts_of(config, f"{config.name}-{part}", labels_of(config, part))
    name = facts["name"]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": facts["namespace"]}
    role = {"apiGroup": RBAC, "kind": "Role", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": facts, "automountServiceAccountToken": True},
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": facts, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": facts,
            "roleRef": role,
            "subjects": [subject],
        },
    ]
