"""The API server, by the official client: JSON in, JSON out. Its models of objects are left aside: to build them of a
thousand pods costs more than to ask for these."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, InputError, UnreachableError
from configs.section import JsonObject

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

MANAGER = "tunegate"  # of the fields that we apply
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
UNPRINTABLE = re.compile("[\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
FORBIDDEN, NOT_FOUND, CONFLICT, GONE, UNPROCESSABLE = 403, 404, 409, 410, 422
# By kind: where it lies in the API, stable in 1.29 to 1.37.
PATHS = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "Event": ("/api/v1", "events"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Pod": ("/api/v1", "pods"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "Job": ("/apis/batch/v1", "jobs"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "HTTPRoute": ("/apis/gateway.networking.k8s.io/v1", "httproutes"),
    "ScaledObject": ("/apis/keda.sh/v1alpha1", "scaledobjects"),
    "TrainJob": ("/apis/trainer.kubeflow.org/v1alpha1", "trainjobs"),
}


class ConflictError(ExternalError):
    """Somebody else was first (409)."""


@dataclass(frozen=True)
class Cluster:
    """One namespace. `context`: of the kubeconfig; None: the current one, or the pod's own account. `read_seconds`: how
    long an answer may take."""

    namespace: str
    context: str | None = None
    read_seconds: float = READ_SECONDS

    @classmethod
    def of(cls, placement: Kubernetes) -> Cluster:
        return cls(placement.namespace, placement.context)

    def path(self, kind: str, name: str = "") -> str:
        group, plural = PATHS[kind]
        return f"{group}/namespaces/{quote(self.namespace)}/{plural}" + (f"/{quote(name)}" if name else "")

    def read(self, kind: str, name: str) -> JsonObject | None:
        """None where there is none. Raises UnreachableError, ExternalError."""
        return self.ask("GET", self.path(kind, name), missing=True)

    def find(self, kind: str, labels: Mapping[str, str], *, cached: bool = False) -> tuple[list[JsonObject], str]:
        """All with these labels, and the version of the list that a watch goes on from. `cached`: as the API server has
        them in memory, which may be a moment old and costs etcd nothing."""
        query = {"labelSelector": selector(labels)} | ({"resourceVersion": "0"} if cached else {})
        found = self.ask("GET", self.path(kind), query) or {}
        return found.get("items") or [], found["metadata"]["resourceVersion"]

    def apply(self, thing: JsonObject, *, dry: bool = False) -> JsonObject:
        """By server-side apply: fields that others own and we do not name stay; ours come back, whoever changed them.
        `dry`: the server says what it would become, and changes nothing."""
        name, query = thing["metadata"]["name"], {"fieldManager": MANAGER, "force": "true"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        query |= {"dryRun": "All"} if dry else {}
        found = self.ask("PATCH", self.path(thing["kind"], name), query, thing, headers)
        assert found is not None
        return found

    def create(self, thing: JsonObject) -> JsonObject:
        """Raises ConflictError where it is there."""
        found = self.ask("POST", self.path(thing["kind"]), {"fieldManager": MANAGER}, thing)
        assert found is not None
        return found

    def replace(self, thing: JsonObject) -> JsonObject:
        """Raises ConflictError where it is no longer of the version that `thing` names."""
        found = self.ask("PUT", self.path(thing["kind"], thing["metadata"]["name"]), {"fieldManager": MANAGER}, thing)
        assert found is not None
        return found

    def patch(self, kind: str, name: str, change: JsonObject) -> JsonObject | None:
        """A merge patch (RFC 7386); None where there is none."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.ask("PATCH", self.path(kind, name), {"fieldManager": MANAGER}, change, headers, missing=True)

    def delete(self, kind: str, name: str, *, grace_seconds: int | None = None) -> bool:
        """With what it owns, in the background. Whether there was one."""
        query = {"propagationPolicy": "Background"}
        query |= {} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)}
        return self.ask("DELETE", self.path(kind, name), query, missing=True) is not None

    def watch(
        self, kind: str, labels: Mapping[str, str], version: str, seconds: int = 60
    ) -> Iterator[tuple[str, JsonObject]]:
        """What happens after `version`: ADDED, MODIFIED, DELETED or BOOKMARK, and the object. Ends after `seconds`, and
        where the server ends it. Raises ExternalError where the version is too old (410): list again."""
        query = {
            "labelSelector": selector(labels),
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        response = self.send("GET", self.path(kind), query, read_seconds=seconds + CONNECT_SECONDS)
        for line in lines_of(response):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ExternalError(f"the watch of {kind} ended: {event['object'].get('message')}", hint=self.hint)
            yield event["type"], event["object"]

    @property
    def hint(self) -> str:
        context = f" --context {self.context}" if self.context else ""
        return f"kubectl{context} -n {self.namespace} get all"

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = {},
        body: JsonObject | None = None,
        headers: Mapping[str, str] = {},
        *,
        missing: bool = False,
    ) -> JsonObject | None:
        """The answer; None for 404 where `missing`. Raises UnreachableError, ConflictError, ExternalError."""
        from urllib3.exceptions import HTTPError

        response = self.send(method, path, query, body, headers, read_seconds=self.read_seconds)
        try:
            text = response.data
        except (HTTPError, OSError) as error:  # it broke off, or hangs, in the middle of its answer
            raise UnreachableError(f"Kubernetes' API, {method} {path}: {error}", hint=self.hint) from None
        if response.status < 300:
            return json.loads(text) if text else {}
        if missing and response.status == NOT_FOUND:
            return None
        message = message_of(text) or response.reason
        kind = {CONFLICT: ConflictError, 429: UnreachableError, 503: UnreachableError}.get(
            response.status, ExternalError
        )
        raise kind(f"Kubernetes refused {method} {path}: {response.status} {message}", hint=self.hint)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = {},
        body: JsonObject | None = None,
        headers: Mapping[str, str] = {},
        *,
        read_seconds: float = READ_SECONDS,
    ) -> Any:
        """urllib3's response, its body unread."""
        from urllib3.exceptions import HTTPError

        client = client_of(self.context, os.getpid())
        fields = {"Accept": "application/json", "Content-Type": "application/json"} | dict(headers)
        method, url, sent, content, _ = client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=fields,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            return client.rest_client.pool_manager.request(
                method,
                url,
                body=None if content is None else body_of(content),
                headers=sent,
                timeout=timeout_of(read_seconds),
                retries=False,
                preload_content=False,
            )
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"Kubernetes' API at {client.configuration.host}: {error}", hint=self.hint) from None


@cache
def client_of(context: str | None, pid: int) -> ApiClient:
    """Once a process: a child must not speak into its parent's connections. Raises InputError where there is neither a
    kubeconfig nor a pod's account."""
    from kubernetes import config as found  # untyped
    from kubernetes.client import ApiClient, Configuration

    config: Any = found

    settings = Configuration()
    file = os.environ.get("KUBECONFIG")  # as it is now: the client's own default is that of its import
    try:
        if context is None:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                config.load_kube_config(file, client_configuration=settings)
        else:
            config.load_kube_config(file, context=context, client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        raise InputError(
            f"Kubernetes: found no way to it: {error}", hint="export KUBECONFIG=FILE; kubectl config get-contexts"
        ) from None
    return ApiClient(settings)


def body_of(content: object) -> bytes:
    """As JSON that is YAML too: a change to apply is read as YAML, which knows neither the pairs of escapes by which
    JSON writes a character beyond the first 65,536, nor a control character as it is."""
    text = json.dumps(content, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def timeout_of(read_seconds: float) -> Any:
    from urllib3 import Timeout

    return Timeout(connect=CONNECT_SECONDS, read=read_seconds)


def lines_of(response: Any) -> Iterator[bytes]:
    """Of a body that comes bit by bit. One that breaks off ends."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for part in response.stream(65_536, decode_content=False):
            *lines, rest = (rest + part).split(b"\n")
            yield from (line for line in lines if line)
    except (HTTPError, OSError):
        return
    finally:
        response.close()


def selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def message_of(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode("utf8", "replace")
