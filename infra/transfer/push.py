"""A published release put where clusters fetch from; what it is there goes on record beside its pointer in git."""

from __future__ import annotations

from pathlib import Path

from configs.release import read_manifest
from infra.dvc.releases import find, folder_of
from infra.files.atomic import read_json, write_json
from infra.signing import SIGNATURE
from infra.transfer.layout import MANIFEST_PATH, RELEASE
from infra.transfer.places import open_place


def push(reference: str, url: str) -> str:
    """Where it lies, of OCI by the artifact's own digest; also in releases/NAME@DIGEST12.places.json. Its bytes here
    are verified first."""
    folder = find(reference)
    manifest = read_manifest(folder / RELEASE)
    paths = [f"{RELEASE}/{file.path}" for file in manifest.files] + [MANIFEST_PATH]
    paths += [SIGNATURE] if (folder / SIGNATURE).exists() else []
    found = open_place(url, manifest.digest).put(folder, paths)
    record = record_of(reference)
    known = (read_json(record) or {}).get("places", [])
    write_json(record, {"release": reference, "places": [*(one for one in known if one != found), found]})
    return found


def record_of(reference: str) -> Path:
    folder = folder_of(reference)
    return folder.with_name(f"{folder.name}.places.json")
