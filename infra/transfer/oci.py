"""A release as an OCI artifact: one layer a file, named by its title, so that `oras pull` writes the same tree.

After the distribution specification 1.1 (opencontainers/distribution-spec) and the image specification's guidance for
artifacts. The tag is the release's digest; what is fetched is believed for its sha256 alone, whatever the tag says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.digest import sha256_of
from configs.errors import InputError, RefusedError
from configs.release import Manifest
from infra.transfer.layout import BLOCK, MANIFEST_PATH, folder_name, sha256_digest
from infra.transfer.registry import Registry

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.tunegate.release.v1"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
FILE_TYPE = "application/octet-stream"
TITLE, RELEASE_NAME = "org.opencontainers.image.title", "dev.tunegate.release"
MOST_BYTES = 4 * 2**20  # of an OCI manifest: what registries must take
NAME = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
URL = re.compile(
    rf"oci://(?P<host>[A-Za-z0-9.:\[\]-]+)/(?P<repository>{NAME}(/{NAME})*)(@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)


@dataclass
class OciRelease:
    """One artifact; `layers`: the digest of each file's bytes, by its path, once they were asked for."""

    url: str
    registry: Registry
    named: str
    layers: dict[str, str] | None = None

    @classmethod
    def open(cls, url: str, digest: str) -> OciRelease:
        """oci://REGISTRY/REPOSITORY, there by the release's own digest; with @sha256:… the artifact of that digest.
        Raises InputError for another form: a tag may be moved."""
        found = URL.fullmatch(url)
        if found is None:
            raise InputError(
                f"found {url}, expected oci://REGISTRY/REPOSITORY or oci://REGISTRY/REPOSITORY@sha256:…",
                hint="without a tag: it is the release's digest",
            )
        registry = Registry.of(found["host"], found["repository"])
        return cls(url, registry, found["digest"] or folder_name(digest))

    def blocks(self, path: str) -> Iterator[bytes]:
        layers = self.layers = self.layers if self.layers is not None else self.read_layers()
        if path not in layers:
            raise InputError(
                f"{self.url}: the artifact has no {path}", hint="tunegate releases push NAME@DIGEST --to …"
            )
        yield from self.registry.blocks(f"blobs/{layers[path]}", BLOCK)

    def read_layers(self) -> dict[str, str]:
        """Raises RefusedError where the artifact is none of ours, or not the one named."""
        content = b"".join(
            self.registry.blocks(f"manifests/{self.named}", BLOCK, accept=MANIFEST_TYPE, most=MOST_BYTES)
        )
        if self.named.startswith("sha256:") and sha256_digest(content) != self.named:
            raise RefusedError(f"{self.url}: the manifest has another digest: {sha256_digest(content)}")
        try:
            found = json.loads(content)
            kind = found.get("artifactType")
            layers = {str(one["annotations"][TITLE]): str(one["digest"]) for one in found["layers"]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(f"{self.url}: its manifest is none of an OCI artifact") from error
        if kind != ARTIFACT_TYPE:
            raise RefusedError(f"{self.url}: found artifactType {kind}, expected {ARTIFACT_TYPE}")
        return layers

    def put(self, folder: Path, paths: list[str]) -> str:
        """`folder`: with release/ in it. What the registry has is not sent again. The artifact's own name, by its
        digest."""
        self.registry.put_blob(sha256_digest(EMPTY), EMPTY)
        layers = []
        for path in paths:
            digest = f"sha256:{sha256_of(folder / path)}"
            self.registry.put_blob(digest, folder / path)
            layers.append(
                descriptor(FILE_TYPE, digest, (folder / path).stat().st_size) | {"annotations": {TITLE: path}}
            )
        manifest = Manifest.model_validate_json((folder / MANIFEST_PATH).read_text(encoding="utf8"))
        content = artifact(manifest.reference, layers)
        self.registry.put_manifest(folder_name(manifest.digest), content, MANIFEST_TYPE)
        return f"oci://{self.registry.host}/{self.registry.repository}@{sha256_digest(content)}"


def descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def artifact(reference: str, layers: list[dict[str, Any]]) -> bytes:
    """The manifest; of the same files the same bytes."""
    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor(EMPTY_TYPE, sha256_digest(EMPTY), len(EMPTY)) | {"data": "e30="},
        "layers": layers,
        "annotations": {RELEASE_NAME: reference},
    }
    return json.dumps(whole, separators=(",", ":")).encode()
