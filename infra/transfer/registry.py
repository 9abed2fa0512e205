"""One repository of an OCI registry, by HTTP: blobs and manifests, and who we are there.

Credentials: TUNEGATE_OCI_USER and TUNEGATE_OCI_PASSWORD, else those of `docker login` ($DOCKER_CONFIG/config.json,
~/.docker/config.json). Loopback, and the registries that TUNEGATE_OCI_PLAIN names (HOST:PORT, with commas), are asked
without TLS; credentials go over TLS or loopback alone.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ExternalError, InputError, RefusedError, cause_of
from infra.files.atomic import read_json

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS, READ_SECONDS = 10, 60
LOGIN = "docker login REGISTRY, or TUNEGATE_OCI_USER and TUNEGATE_OCI_PASSWORD"


@dataclass
class Registry:
    host: str
    repository: str
    plain: bool
    client: Any = field(repr=False)  # httpx.Client
    authorization: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, host: str, repository: str) -> Registry:
        import httpx

        plain = is_loopback(host) or host in os.environ.get("TUNEGATE_OCI_PLAIN", "").split(",")
        times = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        return cls(host, repository, plain, httpx.Client(timeout=times, follow_redirects=True))

    @property
    def url(self) -> str:
        return f"{'http' if self.plain else 'https'}://{self.host}/v2/{self.repository}"

    def blocks(self, path: str, size: int, accept: str = "*/*", most: int | None = None) -> Iterator[bytes]:
        """`most`: bytes that are taken. Raises InputError where it is not there, ExternalError where nobody answers."""
        with self.asked("GET", f"{self.url}/{path}", headers={"Accept": accept}) as response:
            taken = 0
            for block in response.iter_bytes(size):
                taken += len(block)
                if most is not None and taken > most:
                    raise RefusedError(f"{self.url}/{path}: more than {most} bytes")
                yield block

    def put_blob(self, digest: str, content: bytes | Path) -> None:
        """Nothing is sent that is there."""
        with self.asked("HEAD", f"{self.url}/blobs/{digest}", missing=True) as found:
            if found.status_code == 200:
                return
        with self.asked("POST", f"{self.url}/blobs/uploads/") as begun:
            place = begun.request.url.join(begun.headers["Location"])
        query = place.copy_merge_params({"digest": digest})
        kind = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            with self.asked("PUT", query, content=content, headers=kind):
                return
        with content.open("rb") as stream, self.asked("PUT", query, content=stream, headers=kind):
            return

    def put_manifest(self, tag: str, content: bytes, media_type: str) -> None:
        with self.asked("PUT", f"{self.url}/manifests/{tag}", content=content, headers={"Content-Type": media_type}):
            return

    @contextmanager
    def asked(self, method: str, url: Any, *, missing: bool = False, **more: Any) -> Iterator[httpx.Response]:
        """The answer, not read yet; once more with a token where the registry wants one."""
        import httpx

        try:
            headers = more.pop("headers", {})
            response = self.send(method, url, headers, more)
            if response.status_code == 401:
                response.read()
                self.authorize(response, pushes=method not in ("GET", "HEAD") or missing)
                rewind(more.get("content"))
                response = self.send(method, url, headers, more)
            try:
                self.judge(response, missing)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ExternalError(
                f"oci://{self.host}: {cause_of(error)}", hint=f"curl {self.url.split('/v2/')[0]}/v2/"
            ) from error

    def send(self, method: str, url: Any, headers: dict[str, str], more: dict[str, Any]) -> httpx.Response:
        request = self.client.build_request(method, url, headers=headers | self.authorization, **more)
        found: httpx.Response = self.client.send(request, stream=True)
        return found

    def judge(self, response: httpx.Response, missing: bool) -> None:
        code, what = response.status_code, f"oci://{self.host}/{self.repository}"
        if response.is_success or (missing and code == 404):
            return
        if code == 404:
            raise InputError(
                f"{what}: has no {response.request.url.path}", hint=f"tunegate releases push NAME@DIGEST --to {what}"
            )
        if code in (401, 403):
            raise InputError(f"{what}: the registry refuses us ({code})", hint=LOGIN)
        response.read()
        raise ExternalError(f"{what}: found {code}: {' '.join(response.text.split())[:200]}")

    def authorize(self, response: httpx.Response, *, pushes: bool) -> None:
        """As the registry's challenge says: Basic, or a token of its own server (distribution's specification)."""
        challenge = response.headers.get("WWW-Authenticate", "")
        known = credentials(self.host)
        basic = base64.b64encode(":".join(known).encode()).decode() if known else None
        if known and self.plain and not is_loopback(self.host):
            raise InputError(
                f"oci://{self.host}: wants credentials, which are not sent without TLS", hint="a registry with TLS"
            )
        if challenge.lower().startswith("basic"):
            self.authorization = {"Authorization": f"Basic {basic}"} if basic else {}
            return
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = asked.pop("realm", "")
        if not realm.startswith("https://") and not is_loopback(realm.removeprefix("http://").partition("/")[0]):
            raise InputError(
                f"oci://{self.host}: its token server is {realm or 'not named'}, expected one with TLS", hint=LOGIN
            )
        scope = f"repository:{self.repository}:{'pull,push' if pushes else 'pull'}"
        given = self.client.get(
            realm,
            params={"service": asked.get("service", ""), "scope": scope},
            headers={"Authorization": f"Basic {basic}"} if basic else {},
        )
        found = given.json() if given.is_success else {}
        token = found.get("token") or found.get("access_token")
        if not token:
            raise InputError(f"oci://{self.host}: no token by {realm} ({given.status_code})", hint=LOGIN)
        self.authorization = {"Authorization": f"Bearer {token}"}


def rewind(content: Any) -> None:
    if hasattr(content, "seek"):
        content.seek(0)


def is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    return name in ("localhost", "[::1]") or re.fullmatch(r"127\.\d+\.\d+\.\d+", name) is not None


def credentials(host: str) -> tuple[str, str] | None:
    user, password = os.environ.get("TUNEGATE_OCI_USER"), os.environ.get("TUNEGATE_OCI_PASSWORD")
    if user and password:
        return user, password
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    known = (read_json(Path(folder) / "config.json") or {}).get("auths", {})
    try:
        name, _, secret = base64.b64decode(known[host]["auth"]).decode().partition(":")
    except (KeyError, TypeError, ValueError):
        return None
    return name, secret
