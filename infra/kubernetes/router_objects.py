"""The routers in a cluster: pods that each know every slot's servers, and what is in front of them and around them."""

from __future__ import annotations

import hashlib
from typing import Any

from configs.environment.config import DeployConfig
from configs.environment.placement import HttpRoute
from configs.section import JsonObject
from infra.files.yaml_text import as_yaml
from infra.kubernetes.containers import (
    LOCKED_DOWN,
    POD_SECURITY,
    budget,
    environment,
    facts_of,
    literal,
    mount,
    placement_of,
    spread,
    unshared,
)
from infra.kubernetes.labels import DOMAIN, Part, labels_of
from infra.kubernetes.probe import PORT as SERVER_PORT

ADMIN_PORT = 8405
CHECKOUT, STATE = "/srv/tunegate", "/var/lib/tunegate"  # of the image agent
FILES = "/etc/tunegate"  # certificates and token keys
END_SECONDS = 30  # of the grace period, beyond the last streams: infra/router_pods/pod.py
LAST_PRIVILEGED_PORT = 1023


def router_objects(config: DeployConfig) -> list[JsonObject]:
    """ConfigMap, Deployment, PodDisruptionBudget, Service, NetworkPolicies; an HTTPRoute where the YAML names a
    gateway."""
    labels = labels_of(config, "router")
    facts = facts_of(config, f"{config.name}-router", labels)
    text = as_yaml(router_config(config))
    named = facts_of(config, f"{config.name}-config", labels)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {f"{config.name}.yaml": text}}
    digest = hashlib.sha256(text.encode()).hexdigest()
    template = {
        "metadata": {"labels": labels, "annotations": {f"{DOMAIN}/config": digest}},
        "spec": pod_spec(config),
    }
    spec = {
        "replicas": placement_of(config).routers,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 2,
        "template": template,
    }
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": facts, "spec": spec}
    found = [config_map, deployment, budget(facts, labels), service(config), *policies(config)]
    return unshared(found + ([http_route(config, route)] if (route := placement_of(config).route) else []))


def router_config(config: DeployConfig) -> JsonObject:
    """What a router reads of the environment, and no more: a new pin, or a change of how a release is proven, must not
    restart it. Its files are those of its pod, its addresses all."""
    router: JsonObject = config.router.model_dump(mode="json", exclude_unset=True) | {"host": "0.0.0.0"}
    if config.router.tls:
        names = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
        router["tls"] |= {key: f"{FILES}/{name}" for key, name in names.items() if router["tls"].get(key)}
    if config.router.jwt:
        router["jwt"]["jwks"] = f"{FILES}/jwks.json"
    placed = placement_of(config).model_dump(mode="json", exclude_unset=True)
    for key in ("resources", "tolerations", "node_selector", "pod", "node_cache", "context", "max_replicas"):
        placed.pop(key, None)
    # Room for as many servers as there may be, and whether there may be none; which image they run is no business of a
    # router's.
    most, from_zero = placement_of(config).most, placement_of(config).replicas == 0
    placed |= {"replicas": 0, "max_replicas": most} if from_zero else {"replicas": most}
    placed |= {"image": placed["agent_image"]}
    alone = {"supervision": {"metrics_port": config.supervision.metrics_port}, "keep_old_slot": False}
    return {
        "name": config.name,
        "model": config.model,
        "gate": None,
        "router": router,
        "placement": placed,
        "drain_deadline_seconds": config.drain_deadline_seconds,
        **(alone if from_zero else {}),
    }


def pod_spec(config: DeployConfig) -> JsonObject:
    security: dict[str, Any] = dict(POD_SECURITY)
    if config.router.port <= LAST_PRIVILEGED_PORT:
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    return {
        "enableServiceLinks": False,
        "securityContext": security,
        "serviceAccountName": f"{config.name}-router",
        "terminationGracePeriodSeconds": config.drain_deadline_seconds + END_SECONDS,
        "topologySpreadConstraints": [spread(labels_of(config, "router"))],
        "containers": [container(config)],
        "volumes": volumes(config),
    }


def container(config: DeployConfig) -> JsonObject:
    """The token and the key `default` are the Secret's. On SIGTERM it takes no new connection, and ends with its last
    stream."""
    ports = [{"name": "http", "containerPort": config.router.port, "protocol": "TCP"}]
    ports += [{"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}]
    given = environment({"HOME": "/tmp", "TUNEGATE_STATE_HOME": STATE})
    facts = {"TUNEGATE_POD_ADDRESS": "status.podIP", "TUNEGATE_POD_UID": "metadata.uid"}
    given += [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in facts.items()]
    given += [secret(config, name) for name in ("TUNEGATE_ROUTER_TOKEN", config.router.api_key_env)]
    live = {"httpGet": {"path": "/live", "port": "admin"}, "timeoutSeconds": 5}
    mounts = [
        mount("config", f"{CHECKOUT}/configs/deploy", read_only=True),
        mount("state", STATE),
        mount("tmp", "/tmp"),
    ]
    mounts += [mount("files", FILES, read_only=True)] if has_files(config) else []
    return {
        "name": "router",
        "image": placement_of(config).agent_image,
        "command": literal(["tunegate", "router", "pod", config.name]),
        "env": given,
        "ports": ports,
        "startupProbe": live | {"periodSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "admin"}, "periodSeconds": 2, "timeoutSeconds": 2},
        "livenessProbe": live | {"periodSeconds": 10, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
        "securityContext": LOCKED_DOWN,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        "workingDir": CHECKOUT,
    }


def secret(config: DeployConfig, name: str) -> JsonObject:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": f"{config.name}-router", "key": name}}}


def has_files(config: DeployConfig) -> bool:
    return config.router.tls is not None or config.router.jwt is not None


def volumes(config: DeployConfig) -> list[JsonObject]:
    found: list[JsonObject] = [
        {"name": "config", "configMap": {"name": f"{config.name}-config"}},
        {"name": "state", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    sources: list[JsonObject] = [{"secret": {"name": f"{config.name}-tls"}}] if config.router.tls else []
    sources += [{"configMap": {"name": f"{config.name}-jwks"}}] if config.router.jwt else []
    return found + ([{"name": "files", "projected": {"sources": sources}}] if sources else [])


def service(config: DeployConfig) -> JsonObject:
    labels = labels_of(config, "router")
    port = {"name": "http", "port": config.router.port, "protocol": "TCP", "targetPort": "http"}
    spec = {"type": placement_of(config).service, "selector": labels, "ports": [port]}
    facts = facts_of(config, f"{config.name}-router", labels)
    return {"apiVersion": "v1", "kind": "Service", "metadata": facts, "spec": spec}


def http_route(config: DeployConfig, route: HttpRoute) -> JsonObject:
    """No time-out of the gateway's own: a stream may take long, and the router has bounds of its own."""
    namespace, _, name = route.gateway.rpartition("/")
    parent = {"name": name} | ({"namespace": namespace} if namespace else {})
    behind = {"name": f"{config.name}-router", "port": config.router.port}
    spec = {
        "parentRefs": [parent],
        **({"hostnames": route.hostnames} if route.hostnames else {}),
        "rules": [{"backendRefs": [behind], "timeouts": {"request": "0s"}}],
    }
    facts = facts_of(config, f"{config.name}-router", labels_of(config, "router"))
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": facts, "spec": spec}


def policies(config: DeployConfig) -> list[JsonObject]:
    """Only routers and the agent reach a server, only the agent a router's admin port, and the plain HTTP that
    its own requests take; the kubelet always may."""
    router = {"podSelector": {"matchLabels": labels_of(config, "router")}}
    agent = {"podSelector": {"matchLabels": labels_of(config, "agent")}}
    inside = [ADMIN_PORT, *([config.router.tls.local_port] if config.router.tls else [])]
    return [
        policy(config, "server", [{"from": [router, agent], "ports": [port(SERVER_PORT)]}]),
        policy(
            config, "router", [{"ports": [port(config.router.port)]}, {"from": [agent], "ports": [*map(port, inside)]}]
        ),
    ]


def policy(config: DeployConfig, part: Part, ingress: list[JsonObject]) -> JsonObject:
    labels = labels_of(config, part)
    spec = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": ingress}
    facts = facts_of(config, f"{config.name}-{part}", labels)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": facts, "spec": spec}


def port(number: int) -> JsonObject:
    return {"port": number, "protocol": "TCP"}
