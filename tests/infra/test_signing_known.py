"""A signature is held against hashes that are known, and the library has the last word where they do not fit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from configs.digest import sha256_of
from configs.errors import RefusedError
from infra.signing import sign, signature_of, verify_signature
from tests.infra.test_signing import REFERENCE, Pair, flip, pair, release

__all__ = ["pair", "release"]
pytestmark = pytest.mark.unit


def test_a_signed_release_is_read_once_and_again_when_it_changes(
    release: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start of a server verifies it; `afresh`, as a person asks for it, reads whatever is known."""
    read: list[str] = []
    monkeypatch.setattr("infra.files.hashes.SETTLED_SECONDS", 0.05)
    monkeypatch.setattr("infra.files.hashes.sha256_of", lambda path: (read.append(path.name), sha256_of(path))[1])
    monkeypatch.setattr("model_signing.verifying.Config.verify", lambda *facts: read.append("all by the library"))
    sign(release, pair.private)
    time.sleep(0.1)
    for _ in range(3):
        verify_signature(release, str(pair.public), REFERENCE)
    assert sorted(read) == ["config.json", "manifest.json", "model.safetensors"]
    verify_signature(release, str(pair.public), REFERENCE, afresh=True)
    assert len(read) == 6
    flip(release)
    verify_signature(release, str(pair.public), REFERENCE)
    assert read[6:] == ["model.safetensors", "all by the library"], "which says no"


def test_a_link_in_a_signed_folder_is_refused_though_the_bytes_are_the_same(
    tmp_path: Path, release: Path, pair: Pair
) -> None:
    sign(release, pair.private)
    (release / "model.safetensors").rename(tmp_path / "elsewhere")
    (release / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError):
        verify_signature(release, str(pair.public), REFERENCE)


def test_a_signature_by_another_hash_than_ours_is_verified_by_the_library(release: Path, pair: Pair) -> None:
    from model_signing import hashing, signing

    config = signing.Config().use_elliptic_key_signer(private_key=pair.private)  # type: ignore[no-untyped-call]
    config.set_hashing_config(hashing.Config().use_file_serialization(hashing_algorithm="blake3"))  # type: ignore[no-untyped-call]
    config.sign(release, signature_of(release))
    verify_signature(release, str(pair.public), REFERENCE)
    flip(release)
    with pytest.raises(RefusedError):
        verify_signature(release, str(pair.public), REFERENCE)
