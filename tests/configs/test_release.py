"""The digest is the identity: any changed, missing or extra byte is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError, RefusedError
from configs.release import Manifest, ReleaseFile, digest_of, list_files, read_manifest, verify_release
from configs.run.serving import Serving

pytestmark = pytest.mark.unit


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    files = list_files(tmp_path)
    manifest = Manifest(
        name="demo",
        digest=digest_of(files),
        task="causal-lm",
        files=files,
        serving=Serving(),
        base={},
        data={},
        quantization={},
        git_revision="x",
        versions={},
        config={},
        created="now",
    )
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    return tmp_path


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        ("2026-11-24T00:00:00+00:00", 1_795_478_400),
        ("2026-11-24T02:00:00+02:00", 1_795_478_400),
        ("2026-11-24", 1_795_478_400),
        ("1969-01-01T00:00:00+00:00", 0),
        ("now", 0),
        ("", 0),
    ],
)
def test_when_it_was_made_is_a_number_too(release: Path, created: str, seconds: int) -> None:
    """0 where nobody can say: another tunegate's word for it stops nobody."""
    assert read_manifest(release).model_copy(update={"created": created}).created_seconds == seconds


def test_untouched_bytes_verify(release: Path) -> None:
    assert verify_release(release).reference.startswith("demo@sha256:")


def test_one_flipped_byte_names_the_file(release: Path) -> None:
    (release / "model.safetensors").write_bytes(b"wEights")
    with pytest.raises(RefusedError, match=r"model\.safetensors: sha256"):
        verify_release(release)


def test_missing_extra_and_pickle_files_are_all_named(release: Path) -> None:
    (release / "config.json").unlink()
    (release / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RefusedError) as caught:
        verify_release(release)
    assert all(
        part in str(caught.value)
        for part in ("config.json: missing", "pytorch_model.bin: not in the manifest", "pytorch_model.bin: a file type")
    )


def test_another_expected_digest_is_refused(release: Path) -> None:
    with pytest.raises(RefusedError, match="expected sha256:0"):
        verify_release(release, "sha256:" + "0" * 64)


def test_a_directory_without_manifest_is_not_a_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a release"):
        read_manifest(tmp_path)


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.integers(0, 10**9), st.text("0123456789abcdef", min_size=4)),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    st.randoms(),
)
def test_the_digest_ignores_order_and_sees_every_field(rows: list[tuple[str, int, str]], random: object) -> None:
    files = [ReleaseFile(path=path, size=size, sha256=sha) for path, size, sha in rows]
    assert digest_of(files) == digest_of(files[::-1])
    changed = [files[0].model_copy(update={"size": files[0].size + 1}), *files[1:]]
    assert digest_of(changed) != digest_of(files)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "consolidated.00.pth",
        "last.ckpt",
        "vectorizer.pkl",
        "tf_model.h5",
        "modeling.py",
        "lib.so",
        "run",
    ],
)
def test_a_manifest_that_lists_a_pickle_or_code_makes_it_no_release(release: Path, name: str) -> None:
    (release / name).write_bytes(b"\x80\x04.")
    manifest, files = read_manifest(release), list_files(release)
    (release / "manifest.json").write_text(
        manifest.model_copy(update={"files": files, "digest": digest_of(files)}).model_dump_json()
    )
    with pytest.raises(RefusedError, match=rf"{name}: a file type that no release may hold"):
        verify_release(release)
