"""An OCI registry is asked as the specification says; credentials go to it over TLS or loopback alone."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from configs.errors import ExternalError, InputError, RefusedError
from infra.transfer.layout import sha256_digest
from infra.transfer.oci import OciRelease, artifact
from infra.transfer.registry import Registry, credentials, is_loopback
from tests.support import oci_registry

pytestmark = pytest.mark.unit
DIGEST = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def oci() -> Iterator[oci_registry.Registry]:
    with oci_registry.registry() as found:
        yield found


def login(host: str, folder: Path) -> None:
    known = {"auths": {host: {"auth": b64encode(b"USER:SECRET").decode()}}}
    (folder / "config.json").write_text(json.dumps(known))


def test_a_token_is_fetched_with_the_login_of_docker(oci: oci_registry.Registry, tmp_path: Path) -> None:
    oci.wants_token = True
    blob, known = b"x" * 100_000, Registry.of(oci.address, "team/releases")
    with pytest.raises(InputError, match="no token"):
        known.put_blob(sha256_digest(blob), blob)
    login(oci.address, tmp_path)
    (tmp_path / "blob").write_bytes(blob)
    for content in (blob, tmp_path / "blob"):
        oci.blobs.clear()
        known.authorization.clear()
        known.put_blob(sha256_digest(blob), content)
        assert list(oci.blobs.values()) == [blob]
    assert b"".join(known.blocks(f"blobs/{sha256_digest(blob)}", 1000)) == blob


def test_what_is_there_is_not_sent_again(oci: oci_registry.Registry) -> None:
    known = Registry.of(oci.address, "r")
    for _ in range(2):
        known.put_blob(sha256_digest(b"x"), b"x")
    assert sum(one.startswith("POST") for one in oci.asked) == 1


def test_the_environment_comes_before_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials("r.example") is None
    login("r.example", tmp_path)
    assert credentials("r.example") == ("USER", "SECRET") and credentials("other.example") is None
    monkeypatch.setenv("TUNEGATE_OCI_USER", "me")
    monkeypatch.setenv("TUNEGATE_OCI_PASSWORD", "mine")
    assert credentials("other.example") == ("me", "mine")


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("[::1]:5000", True),
        ("127.0.0.1.example", False),
        ("r.example", False),
        ("r.example:5000", False),
        ("localhost.example:5000", False),
        ("1270.0.0.1", False),
    ],
)
def test_only_loopback_is_asked_without_tls(host: str, plain: bool) -> None:
    assert is_loopback(host) is plain and Registry.of(host, "r").plain is plain


def test_a_registry_without_tls_is_named_and_never_gets_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setenv("TUNEGATE_OCI_PLAIN", "10.0.0.1:5000,10.0.0.2:5000")
    known = Registry.of("10.0.0.2:5000", "r")
    assert known.plain and not Registry.of("10.0.0.3:5000", "r").plain
    monkeypatch.setenv("TUNEGATE_OCI_USER", "me")
    monkeypatch.setenv("TUNEGATE_OCI_PASSWORD", "mine")
    with pytest.raises(InputError, match="without TLS"):
        known.authorize(httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"}), pushes=False)


def test_a_token_server_without_tls_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    challenge = {"WWW-Authenticate": 'Bearer realm="http://tokens.example/token",service="r"'}
    with pytest.raises(InputError, match="token server"):
        Registry.of("r.example", "r").authorize(httpx.Response(401, headers=challenge), pushes=False)


def test_nobody_there_is_outside(oci: oci_registry.Registry) -> None:
    with pytest.raises(ExternalError, match="oci://127"):
        list(Registry.of("127.0.0.1:1", "r").blocks("blobs/x", 10))


@pytest.mark.parametrize(
    "url",
    [
        "oci://r",
        "oci://r/",
        "oci://r/name:tag",
        "oci://r/Name",
        "oci://r/a@sha256:1",
        "oci://r/a/../b",
        "oci:///a",
        "oci://u:p@r/a",
    ],
)
def test_what_is_no_place_or_may_be_moved_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="expected oci://"):
        OciRelease.open(url, DIGEST)


@given(st.from_regex(r"oci://[a-z0-9.]{1,8}(:[0-9]{1,4})?/[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}", fullmatch=True))
@example("oci://registry.example:5000/team/releases")
def test_a_place_is_asked_for_the_release_by_its_digest(url: str) -> None:
    found = OciRelease.open(url, DIGEST)
    assert found.named == DIGEST.replace(":", "-") and f"oci://{found.registry.host}/{found.registry.repository}" == url
    assert OciRelease.open(f"{url}@{DIGEST}", "sha256:" + "b" * 64).named == DIGEST


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b'{"layers": [{}]}',
        b'{"artifactType": "application/x", "layers": []}',
        b"x" * (4 * 2**20 + 1),
    ],
)
def test_a_manifest_of_anything_else_is_refused(oci: oci_registry.Registry, manifest: bytes) -> None:
    oci.manifests[DIGEST.replace(":", "-")] = manifest
    with pytest.raises(RefusedError):
        OciRelease.open(f"oci://{oci.address}/r", DIGEST).read_layers()


def test_an_artifact_named_by_digest_is_that_one(oci: oci_registry.Registry) -> None:
    oci.manifests[DIGEST] = artifact("demo@sha256:1", [])
    with pytest.raises(RefusedError, match="another digest"):
        OciRelease.open(f"oci://{oci.address}/r@{DIGEST}", DIGEST).read_layers()
