"""A release comes into a node's cache once, whole and verified, from wherever it lies; what is not what its digest says
is seen by nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from configs.errors import ExternalError, InputError, RefusedError
from configs.release import Manifest, ReleaseFile, digest_of, list_files
from configs.run.serving import Serving
from infra.files.atomic import read_json
from infra.signing import sign
from infra.transfer.cache import fetch_into, link_into, read_stated
from infra.transfer.places import open_place
from infra.transfer.push import push, record_of
from infra.transfer.stored import StoredRelease
from tests.support.oci_registry import Registry, registry
from tests.support.releases import content
from tunegate import app

pytestmark = pytest.mark.unit
FILES = {
    "model.safetensors": b"weights" * 1000,
    "config.json": b"{}",
    "lora/adapter.safetensors": b"b",
    "empty.txt": b"",
}
FACTS: dict[str, Any] = {name: {} for name in ("base", "data", "quantization", "versions", "config")}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infra.transfer.cache.WAIT_SECONDS", 0.0)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def reference() -> str:
    """releases/NAME@DIGEST12 with files in folders and of no bytes."""
    folder = Path("releases/.made/release")
    for path, written in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(written)
    files = list_files(folder)
    facts = FACTS | {"git_revision": "x", "created": "2026-11-24"}
    manifest = Manifest(name="demo", digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    folder.parent.rename(f"releases/demo@{manifest.digest[7:19]}")
    return manifest.reference


@pytest.fixture
def oci() -> Iterator[Registry]:
    with registry() as found:
        yield found


@pytest.fixture(params=["oci", "folder"])
def url(request: pytest.FixtureRequest) -> str:
    return f"oci://{request.getfixturevalue('oci').address}/team/releases" if request.param == "oci" else "volume"


def fetched(reference: str, url: str, cache: str = "cache", **more: Any) -> Path:
    return fetch_into(Path(cache), reference, open_place(url, reference.partition("@")[2]), **more)


def released(reference: str) -> dict[str, bytes]:
    return content(Path(f"releases/demo@{reference.partition(':')[2][:12]}/release"))


def test_what_is_pushed_is_fetched_byte_for_byte(reference: str, url: str) -> None:
    push(reference, url)
    release = fetched(reference, url)
    assert release == Path(f"cache/{reference.partition('@')[2].replace(':', '-')}/release")
    assert content(release) == released(reference)
    assert not list(Path("cache").glob("*.partial"))


def test_a_second_pod_finds_it_and_asks_nobody(reference: str, oci: Registry) -> None:
    url = f"oci://{oci.address}/releases"
    push(reference, url)
    fetched(reference, url)
    asked = len(oci.asked)
    assert content(fetched(reference, url)) == released(reference) and len(oci.asked) == asked


def test_pods_that_start_together_fetch_once(reference: str, oci: Registry) -> None:
    url = f"oci://{oci.address}/releases"
    push(reference, url)
    oci.asked.clear()
    threads = [threading.Thread(target=fetched, args=(reference, url)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(fetched(reference, url)) == released(reference)
    blobs = [one for one in oci.asked if "/blobs/" in one]
    assert len(blobs) == len(set(blobs)) == len(FILES) + 1


@pytest.mark.parametrize("path", [*(path for path, written in FILES.items() if written), "manifest.json"])
def test_bytes_of_another_kind_are_seen_by_nobody(reference: str, oci: Registry, path: str) -> None:
    url = f"oci://{oci.address}/releases"
    push(reference, url)
    digest = next(
        one["digest"]
        for one in json.loads(oci.manifests[reference.partition("@")[2].replace(":", "-")])["layers"]
        if one["annotations"]["org.opencontainers.image.title"] == f"release/{path}"
    )
    oci.faults[digest] = (1, "false")
    with pytest.raises(RefusedError, match=path):
        fetched(reference, url)
    assert {one.suffix for one in Path("cache").iterdir() if one.is_dir()} <= {".partial"}
    assert content(fetched(reference, url)) == released(reference)


@pytest.mark.parametrize("kind", ["torn", "500", "503"])
def test_a_place_that_fails_in_the_middle_is_asked_again(reference: str, oci: Registry, kind: str) -> None:
    url = f"oci://{oci.address}/releases"
    push(reference, url)
    (weights,) = [digest for digest, blob in oci.blobs.items() if blob == FILES["model.safetensors"]]
    oci.faults[weights] = (2, kind)
    assert content(fetched(reference, url)) == released(reference)
    shutil.rmtree("cache")
    oci.faults[weights] = (3, kind)
    with pytest.raises(ExternalError):
        fetched(reference, url)
    oci.asked.clear()
    assert content(fetched(reference, url)) == released(reference)
    assert sum("/blobs/" in one for one in oci.asked) == 2, "what is whole is not fetched again: manifest and weights"


def test_what_rots_in_the_cache_is_fetched_anew(reference: str, url: str) -> None:
    push(reference, url)
    release = fetched(reference, url)
    (release / "config.json").write_bytes(b"[]")
    assert content(fetched(reference, url)) == released(reference)
    (release / "extra.json").write_bytes(b"[]")
    assert content(fetched(reference, url)) == released(reference)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest | {"files": manifest["files"][:-1]},
        lambda manifest: manifest | {"digest": "sha256:" + "0" * 64},
        lambda manifest: {"files": []},
        lambda manifest: [],
    ],
)
def test_a_manifest_of_another_release_is_refused(reference: str, change: Any) -> None:
    place = push(reference, "volume")
    path = Path(place) / "release/manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        fetched(reference, "volume")


@given(st.sampled_from(["../x.json", "/etc/x.json", "a/../../x.json", "x.py", "x", "manifest.json", "a/../x.json"]))
def test_a_release_names_no_file_outside_of_itself_and_none_of_a_kind_that_runs(path: str) -> None:
    files = [ReleaseFile(path=path, size=1, sha256="0" * 64)]
    facts = FACTS | {"git_revision": "x", "created": "2026-11-24"}
    manifest = Manifest(name="demo", digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    place = StoredRelease("volume", None, "")
    with pytest.raises(RefusedError, match="no file that a release may hold"):
        read_stated(manifest.model_dump_json().encode(), manifest.digest, place)


def test_another_name_for_the_same_bytes_is_refused(reference: str) -> None:
    push(reference, "volume")
    with pytest.raises(RefusedError, match="found the release demo"):
        fetched(reference.replace("demo", "other"), "volume")


def test_what_a_place_does_not_have_is_said_with_the_command_that_brings_it(reference: str, url: str) -> None:
    with pytest.raises(InputError, match=r"(?s)has no .*releases push"):
        fetched(reference, url)


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(reference, "volume")
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(ExternalError, match="GiB free"):
        fetched(reference, "volume")


def test_a_signature_travels_and_another_key_is_refused(reference: str, url: str) -> None:
    for name in ("one", "two"):
        make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key"]
        show = ["openssl", "ec", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub"]
        for command in (make, show):
            subprocess.run(command, check=True, capture_output=True)
    push(reference, url)
    with pytest.raises(RefusedError, match="expected a signature"):
        fetched(reference, url, public_key="one.pub")
    sign(Path(f"releases/demo@{reference.partition(':')[2][:12]}/release"), Path("one.key"))
    push(reference, url)
    assert fetched(reference, url, public_key="one.pub")
    with pytest.raises(RefusedError):
        fetched(reference, url, public_key="two.pub")


def test_a_folder_shows_the_release_and_nothing_else(tmp_path: Path, reference: str) -> None:
    push(reference, "volume")
    release, shown = fetched(reference, "volume"), tmp_path / "shown"
    for _ in range(2):
        link_into(release, shown)
        assert {path: (shown / path).read_bytes() for path in FILES} == FILES and (shown / "manifest.json").exists()
    (shown / "mine").touch()
    with pytest.raises(InputError, match="holds mine"):
        link_into(release, shown)


def test_what_was_pushed_where_is_on_record(reference: str, oci: Registry) -> None:
    url = f"oci://{oci.address}/releases"
    for place in (url, "volume", url):
        push(reference, place)
    kept = read_json(record_of(reference))
    assert kept and kept["release"] == reference and len(kept["places"]) == 2
    assert kept["places"][0].startswith("volume/sha256-")
    named = kept["places"][1]
    assert named.startswith(f"{url}@sha256:") and content(fetched(reference, named)) == released(reference)


def test_the_commands_put_and_fetch(reference: str, url: str) -> None:
    run = CliRunner()
    put = run.invoke(app, ["releases", "push", reference, "--to", url])
    assert put.exit_code == 0 and "sha256" in put.stdout
    got = run.invoke(app, ["fetch", reference, "--to", "shown", "--from", url, "--cache", "cache"])
    assert got.exit_code == 0 and Path("shown/model.safetensors").read_bytes() == FILES["model.safetensors"]
    for words in (["releases", "push", reference], ["fetch", "demo@1", "--to", "x", "--from", url]):
        assert isinstance(run.invoke(app, words).exception, InputError)


@pytest.mark.integration
def test_from_s3(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.stores import ACCESS_KEY, SECRET_KEY, s3

    with s3(tmp_path / "s3", "releases") as (_, address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        with pytest.raises(InputError, match="has no"):
            fetched(reference, "s3://releases/published")
        push(reference, "s3://releases/published")
        assert content(fetched(reference, "s3://releases/published")) == released(reference)
    with pytest.raises(ExternalError, match="cannot be used"):
        fetched(reference, "s3://releases/published", "another")


def test_links_are_absolute_so_that_a_mounted_volume_shows_them(reference: str) -> None:
    push(reference, "volume")
    link_into(fetched(reference, "volume"), Path("shown"))
    assert all(os.path.isabs(os.readlink(path)) for path in Path("shown").iterdir())
