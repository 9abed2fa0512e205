"""Checkpoints in a store outside of the machine: a path or s3://…, by fsspec.

Each upload has a folder of its own, checkpoint-STEP/TOKEN, so that two of one step never mix. Its manifest,
checkpoint-STEP.json, is written last: names, sizes and sha256 of the files. What no manifest names is torn, counts for
nothing and is removed; what one names is taken only where every byte is as it says.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict, cast

from configs.digest import sha256_of
from configs.errors import ExternalError, cause_of

S3_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}


class StoredFile(TypedDict):
    """`path`: relative to the checkpoint."""

    path: str
    size: int
    sha256: str


class Stored(TypedDict):
    """A checkpoint's manifest. `key`: of the config and data that it belongs to; `facts`: what goes on with it;
    `weights_only`: kept as the best one, nothing goes on from it."""

    key: str
    step: int
    best_step: int | None
    folder: str
    files: list[StoredFile]
    facts: dict[str, Any]
    weights_only: NotRequired[bool]


class DamagedError(Exception):
    """A stored checkpoint is not what its manifest says."""


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one config and data: ROOT is URL/NAME/sixteen digits of the key."""

    files: Any  # fsspec's file system: it has no types
    root: str
    key: str
    url: str

    @classmethod
    def open(cls, url: str, name: str, key: str) -> CheckpointStore:
        """Raises ExternalError where nothing can be written or read there: before any training."""
        import fsspec

        remote = "://" in url
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True} if remote else {}
        if url.startswith("s3://"):
            options["config_kwargs"] = S3_TIMES
        with answered(url):
            files, path = fsspec.url_to_fs(url if remote else str(Path(url).absolute()), **options)
            store = cls(files, f"{path.rstrip('/')}/{name}/{key[:16]}", key, url)
            store.make_folder(store.root)
            files.pipe_file(f"{store.root}/key", key.encode())
            if files.cat_file(f"{store.root}/key") != key.encode():
                raise ExternalError(f"launch.checkpoints: {url} does not give back what is written")
        return store

    def manifests(self) -> list[Stored]:
        """Of this key, newest first; half of one is none. Raises ExternalError where the store does not answer."""
        with answered(self.url):
            paths = [path for path in self.listed() if "/" not in path and fnmatch(path, "checkpoint-*.json")]
            found = [parse_manifest(self.files.cat_file(f"{self.root}/{path}")) for path in paths]
        mine = [one for one in found if one is not None and one["key"] == self.key]
        return sorted(mine, key=lambda one: one["step"], reverse=True)

    def make_folder(self, path: str) -> None:
        """S3 has none: asked for one, s3fs makes the bucket."""
        if self.is_local:
            self.files.makedirs(path, exist_ok=True)

    @property
    def is_local(self) -> bool:
        return "file" in self.files.protocol

    def listed(self) -> list[str]:
        """Every file below the root, relative to it."""
        root = f"{self.root}/"
        return [path.removeprefix(root) for path in map(str, self.files.find(self.root)) if path.startswith(root)]

    def put(self, checkpoint: Path, step: int, best_step: int | None, facts: dict[str, Any]) -> None:
        """Files first, the manifest last. Raises what the file system raises."""
        folder = f"checkpoint-{step}/{secrets.token_hex(4)}"
        files: list[StoredFile] = []
        for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
            name = path.relative_to(checkpoint).as_posix()
            target = f"{self.root}/{folder}/{name}"
            self.make_folder(target.rsplit("/", 1)[0])
            self.files.put_file(str(path), target)
            files.append({"path": name, "size": path.stat().st_size, "sha256": sha256_of(path)})
        self.write_manifest(
            {"key": self.key, "step": step, "best_step": best_step, "folder": folder, "files": files, "facts": facts}
        )

    def write_manifest(self, manifest: Stored) -> None:
        """In one go: an object of S3 is whole or absent, a file is renamed to its place."""
        path, text = self.path_of(manifest), json.dumps(manifest, indent=2).encode()
        if not self.is_local:
            self.files.pipe_file(path, text)
            return
        self.files.pipe_file(f"{path}.partial", text)
        os.replace(f"{path}.partial", path)

    def path_of(self, manifest: Stored) -> str:
        return f"{self.root}/checkpoint-{manifest['step']}.json"

    def fetch(self, manifest: Stored, target: Path) -> None:
        """Into a new folder. Raises DamagedError where a file is missing or another than the manifest says,
        ExternalError where the store does not answer."""
        shutil.rmtree(target, ignore_errors=True)
        for file in manifest["files"]:
            source, place = f"{self.root}/{manifest['folder']}/{file['path']}", target / file["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            with answered(self.url):
                there = self.files.exists(source)
                if there:
                    self.files.get_file(source, str(place))
            if not there:
                raise DamagedError(f"{file['path']} is not there")
            if place.stat().st_size != file["size"] or sha256_of(place) != file["sha256"]:
                raise DamagedError(f"{file['path']} has other bytes than were written")

    def retain(self, newest: int, best: int | None, resumed_from: tuple[str, ...]) -> None:
        """Removes all but the newest and the best one, of which the weights stay, as locally. `resumed_from`: patterns
        of the files that only going on needs."""
        for manifest in self.manifests():
            if manifest["step"] == best and manifest["step"] < newest:
                self.keep_weights(manifest, resumed_from)
            elif manifest["step"] < newest:
                self.drop(manifest)

    def keep_weights(self, manifest: Stored, resumed_from: tuple[str, ...]) -> None:
        kept = [
            file
            for file in manifest["files"]
            if not any(fnmatch(file["path"].split("/")[0], pattern) for pattern in resumed_from)
        ]
        if manifest.get("weights_only"):
            return
        self.write_manifest({**manifest, "files": kept, "weights_only": True})
        for file in manifest["files"]:
            if file not in kept:
                self.files.rm_file(f"{self.root}/{manifest['folder']}/{file['path']}")

    def drop(self, manifest: Stored) -> None:
        """The manifest first: what remains after a kill is torn."""
        self.files.rm_file(self.path_of(manifest))
        self.files.rm(f"{self.root}/checkpoint-{manifest['step']}", recursive=True)

    def clean(self) -> list[str]:
        """Removes uploads that no manifest names, and names them."""
        whole = {manifest["folder"] for manifest in self.manifests()}
        with answered(self.url):
            sent = {"/".join(path.split("/")[:2]) for path in self.listed() if path.count("/") >= 2}
            for torn in sent - whole:
                self.files.rm(f"{self.root}/{torn}", recursive=True)
        return sorted(sent - whole)

    def remove(self) -> None:
        """After a finished training nothing goes on from here."""
        for manifest in self.manifests():
            self.files.rm_file(self.path_of(manifest))
        self.files.rm(self.root, recursive=True)


def parse_manifest(text: bytes) -> Stored | None:
    """None of what is torn, or names a file outside of its folder."""
    try:
        found = json.loads(text)
        names = [found["folder"], *(file["path"] for file in found["files"])]
        sizes = [file["size"] for file in found["files"]]
        hashes = [file["sha256"] for file in found["files"]]
        whole = (
            isinstance(found["step"], int)
            and isinstance(found["key"], str)
            and isinstance(found["facts"], dict)
            and isinstance(found["best_step"], int | None)
            and all(isinstance(size, int) for size in sizes)
            and all(isinstance(one, str) for one in (*hashes, *names))
        )
    except (ValueError, KeyError, TypeError):
        return None
    inside = whole and not any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names)
    return cast(Stored, found) if inside else None


@contextmanager
def answered(url: str) -> Iterator[None]:
    """Raises ExternalError of whatever a file system raises: each kind has errors of its own."""
    try:
        yield
    except ExternalError:
        raise
    except Exception as error:
        raise ExternalError(
            f"launch.checkpoints: {url} cannot be used: {cause_of(error)}",
            hint="see that it exists and that this machine may write there; s3://: the environment's AWS_… or ~/.aws",
        ) from error
