"""The Helm chart infra/helm/tunegate: the objects of agent and routers with places for values, made from the same
functions as every other rendering, so that it cannot say something else.

.venv/bin/python -m infra.manifests.chart    # writes its templates anew
"""

from __future__ import annotations

import re
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.section import JsonObject
from infra.files.atomic import write_text
from infra.files.yaml_text import as_yaml
from infra.kubernetes.containers import literal, placement_of
from infra.kubernetes.labels import DOMAIN
from infra.kubernetes.router_objects import END_SECONDS, LAST_PRIVILEGED_PORT, router_objects
from infra.manifests.access import access_objects
from infra.manifests.agent_objects import GIT, Source, agent_objects
from infra.manifests.kustomize import file_name

TEMPLATES = Path("infra/helm/tunegate/templates")
# Each stands for a value, and is found nowhere else.
NAME, SPACE, IMAGE, KEY = "n--0", "0space0", f"0image0@sha256:{'0' * 64}", "ZERO_KEY"
REPOSITORY, BRANCH, STORAGE = "0repository0", "0branch0", "0storage0"
GATEWAY, CONFIG, DIGEST, SERVICE = "0gateway0", "0config0", "0digest0", "LoadBalancer"
PORT, METRICS, DRAIN, ROUTERS = 54_321, 54_322, 54_323, 13
TEXTS = {
    NAME: ".Values.name",
    SPACE: ".Values.namespace",
    IMAGE: ".Values.agentImage",
    KEY: ".Values.apiKeyEnv",
    REPOSITORY: ".Values.repository",
    BRANCH: ".Values.branch",
    STORAGE: ".Values.storage",
    GATEWAY: ".Values.route.gateway",
    CONFIG: ".Values.config",
    DIGEST: "sha256sum .Values.config",
}
NUMBERS = {
    PORT: ".Values.port",
    METRICS: ".Values.metricsPort",
    DRAIN + END_SECONDS: f"add .Values.drainDeadlineSeconds {END_SECONDS}",
}
SIGNERS = ["--signers", f"{GIT}/allowed_signers"]


def values_of(config: DeployConfig, source: Source) -> JsonObject:
    """Of an environment. Raises InputError for what the chart has no place for."""
    placed = placement_of(config)
    wrong = {
        "router.tls": config.router.tls is not None,
        "router.jwt": config.router.jwt is not None,
        f"a router.port up to {LAST_PRIVILEGED_PORT}": config.router.port <= LAST_PRIVILEGED_PORT,
        "no supervision.metrics_port": config.supervision.metrics_port is None,
    }
    if any(wrong.values()):
        raise InputError(
            f"the Helm chart has no place for {', '.join(name for name, is_so in wrong.items() if is_so)}",
            hint=f"tunegate render {config.name} --out FOLDER",
        )
    namespace, _, gateway = placed.route.gateway.rpartition("/") if placed.route else ("", "", "")
    route = {"gateway": gateway, "namespace": namespace, "hostnames": placed.route.hostnames} if placed.route else None
    text = next(thing for thing in router_objects(config) if thing["kind"] == "ConfigMap")["data"]
    repository, branch = literal([source.repository, source.branch])
    return {
        "name": config.name,
        "namespace": placed.namespace,
        "agentImage": placed.agent_image,
        "routers": placed.routers,
        "port": config.router.port,
        "service": placed.service,
        "route": route,
        "apiKeyEnv": config.router.api_key_env,
        "metricsPort": config.supervision.metrics_port,
        "drainDeadlineSeconds": config.drain_deadline_seconds,
        "autoscaling": placed.max_replicas is not None,
        "repository": repository,
        "branch": branch,
        "signed": source.signed,
        "storage": source.storage,
        "config": text[f"{config.name}.yaml"],
    }


def templates() -> dict[str, str]:
    """By the file's name."""
    placement: JsonObject = {
        "kind": "kubernetes",
        "namespace": SPACE,
        "image": IMAGE,
        "agent_image": IMAGE,
        "bytes": "s3://none",
    }
    placement |= {"routers": ROUTERS, "service": SERVICE, "route": {"gateway": GATEWAY}, "max_replicas": 2}
    config = DeployConfig.model_validate(
        {
            "name": NAME,
            "model": "m",
            "gate": None,
            "router": {"port": PORT, "api_key_env": KEY},
            "supervision": {"metrics_port": METRICS},
            "drain_deadline_seconds": DRAIN,
            "placement": placement,
        }
    )
    source = Source(REPOSITORY, BRANCH, signed=True, storage=STORAGE)
    things = [*access_objects(config), *router_objects(config), *agent_objects(config, source)]
    return {file_name(thing).replace(NAME, "environment"): template_of(thing) for thing in things}


def template_of(thing: JsonObject) -> str:
    if thing["kind"] == "ConfigMap":
        thing["data"] = {f"{NAME}.yaml": CONFIG}
    if thing["kind"] == "HTTPRoute":
        return when(".Values.route", routed(with_values(as_yaml(thing))))
    if thing["kind"] == "Role":
        return role_of(thing)
    if thing["kind"] == "Deployment" and "annotations" in thing["spec"]["template"]["metadata"]:
        thing["spec"]["template"]["metadata"]["annotations"][f"{DOMAIN}/config"] = DIGEST
    return signed(with_values(as_yaml(thing)))


def with_values(text: str) -> str:
    for stands, value in TEXTS.items():
        text = re.sub(rf'(?m)(?<=[:-] )"?{re.escape(stands)}"?$', f"{{{{ toJson ({value}) }}}}", text)
        text = text.replace(stands, f"{{{{ {value} }}}}")
    for number, value in NUMBERS.items():
        text = text.replace(f": {number}\n", f": {{{{ {value} }}}}\n")
    text = text.replace(f"replicas: {ROUTERS}\n", "replicas: {{ .Values.routers }}\n")
    return text.replace(f"type: {SERVICE}\n", "type: {{ .Values.service }}\n")


def when(condition: str, text: str) -> str:
    return f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"


def routed(text: str) -> str:
    """What of a route may be absent."""
    name = "  - name: {{ toJson (.Values.route.gateway) }}\n"
    assert name in text
    space = when(".Values.route.namespace", "    namespace: {{ toJson (.Values.route.namespace) }}\n")
    hosts = when(".Values.route.hostnames", "  hostnames: {{ toJson (.Values.route.hostnames) }}\n")
    return text.replace(name, name + space + hosts)


def role_of(role: JsonObject) -> str:
    """Rights to what others' engines define, last, where such objects are used."""
    optional = {"gateway.networking.k8s.io": ".Values.route", "keda.sh": ".Values.autoscaling"}
    always = [rule for rule in role["rules"] if rule["apiGroups"][0] not in optional]
    text = with_values(as_yaml(role | {"rules": always}))
    for rule in role["rules"]:
        if condition := optional.get(rule["apiGroups"][0]):
            text += when(condition, as_yaml({"rules": [rule]}).removeprefix("rules:\n"))
    return text


def signed(text: str) -> str:
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.strip() == f'- "{SIGNERS[0]}"':
            lines[number : number + 2] = [when(".Values.signed", "".join(lines[number : number + 2]))]
    return "".join(lines)


def main() -> None:
    for name, text in templates().items():
        write_text(TEMPLATES / name, text)


if __name__ == "__main__":
    main()
