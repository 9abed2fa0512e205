"""Where releases lie outside of DVC: oci://REGISTRY/REPOSITORY, s3://BUCKET/PREFIX, or a folder."""

from __future__ import annotations

from infra.transfer.layout import Place
from infra.transfer.oci import OciRelease
from infra.transfer.stored import StoredRelease


def open_place(url: str, digest: str) -> Place:
    """Raises InputError for what is no place."""
    return OciRelease.open(url, digest) if url.startswith("oci://") else StoredRelease.open(url, digest)
