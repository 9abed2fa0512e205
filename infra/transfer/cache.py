"""A node's cache of releases: one folder a digest, fetched once however many pods want it, and verified before anyone
sees it.

Bytes come beside (.partial), each file hashed as it comes; the folder is renamed to its place when all of it is what
the release's digest says. Killed, the next call keeps the files that are whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from configs.digest import sha256_of
from configs.errors import ExternalError, InputError, RefusedError
from configs.release import ALLOWED_SUFFIXES, MANIFEST, Manifest, ReleaseFile, digest_of, verify_release
from infra.files.hashes import FileHashes
from infra.signing import SIGNATURE, verify_signature
from infra.transfer.layout import MANIFEST_PATH, RELEASE, Place, folder_name

AT_ONCE = 4  # files
TRIES, WAIT_SECONDS = 3, 1.0
MOST_BYTES = 64 * 2**20  # of a manifest, or a signature


def fetch_into(cache: Path, reference: str, place: Place, public_key: str | None = None) -> Path:
    """The folder of the verified release NAME@sha256:HEX, CACHE/sha256-HEX/release. `public_key`: that must have signed
    it. Raises RefusedError where the bytes, or the signature, are others, InputError where the place does not have it,
    ExternalError where it does not answer or there is no room."""
    name, _, digest = reference.partition("@")
    folder = cache / folder_name(digest)
    with one_at_a_time(cache, folder.name):
        if not is_whole(folder / RELEASE, digest, cache):
            partial = cache / f"{folder.name}.partial"
            bring(partial, digest, place)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        if public_key:
            verify_signed(folder, place, public_key, reference)
    found = json.loads((folder / MANIFEST_PATH).read_text(encoding="utf8"))["name"]
    if found != name:
        raise RefusedError(f"{place.url}: found the release {found}@{digest}, expected {reference}")
    return folder / RELEASE


def verify_signed(folder: Path, place: Place, public_key: str, reference: str) -> None:
    """By the signature here, else by the one that the place has by now."""
    try:
        verify_signature(folder / RELEASE, public_key, reference)
    except RefusedError:
        bring_signature(folder, place)
        verify_signature(folder / RELEASE, public_key, reference)


@contextmanager
def one_at_a_time(cache: Path, name: str) -> Iterator[None]:
    """Those who want the same release wait; the kernel lets go of the lock with the process."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ExternalError(f"{cache}: {error.strerror or error}", hint=f"df -h {cache}; ls -ld {cache}") from error


def is_whole(release: Path, digest: str, cache: Path) -> bool:
    """What another pod has verified: hashed again only where a file's size, times or inode are others since."""
    if not release.is_dir():
        return False
    hashes = FileHashes(cache / "hashed.json")
    try:
        verify_release(release, digest, hashes.sha256_of)
    except (RefusedError, InputError):
        return False
    finally:
        hashes.keep()
    return True


def bring(partial: Path, digest: str, place: Place) -> None:
    """Every file of the release into a folder of its own; what is there and right stays."""
    content = read(place, MANIFEST_PATH)
    manifest = read_stated(content, digest, place)
    release = partial / RELEASE
    release.mkdir(parents=True, exist_ok=True)
    stated = {file.path for file in manifest.files}
    for path in [path for path in release.rglob("*") if path.is_file()]:
        if path.relative_to(release).as_posix() not in stated:
            path.unlink()
    missing = [file for file in manifest.files if not is_there(release / file.path, file)]
    refuse_too_large(partial, sum(file.size for file in missing))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(bring_file, place, file, release / file.path) for file in missing]:
            done.result()
    bring_signature(partial, place)
    (release / MANIFEST).write_bytes(content)
    verify_release(release, digest, lambda path: stated_hash(manifest, release, path))


def stated_hash(manifest: Manifest, release: Path, path: Path) -> str:
    """Each file was hashed as it came; this looks at which there are."""
    known = {file.path: file.sha256 for file in manifest.files}
    return known.get(path.relative_to(release).as_posix(), "")


def read_stated(content: bytes, digest: str, place: Place) -> Manifest:
    """Raises RefusedError where it is not the manifest of the digest, or names what no release may hold."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise RefusedError(f"{place.url}: its {MANIFEST} is none of a release") from error
    if manifest.digest != digest or digest_of(manifest.files) != digest:
        raise RefusedError(
            f"{place.url}: its {MANIFEST} states other files than {digest}", hint="another place, or push again"
        )
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or path.suffix not in ALLOWED_SUFFIXES or file.path == MANIFEST:
            raise RefusedError(f"{place.url}: {file.path!r} is no file that a release may hold")
    return manifest


def is_there(path: Path, file: ReleaseFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def refuse_too_large(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ExternalError(
            f"{folder}: {free / 2**30:.1f} GiB free, {size / 2**30:.1f} GiB to be fetched", hint=f"df -h {folder}"
        )


def bring_file(place: Place, file: ReleaseFile, target: Path) -> None:
    """Tried again where the place fails in the middle. Raises RefusedError where the bytes are others than stated."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(TRIES)):
        try:
            write_file(place, file, target)
            return
        except ExternalError:
            if not left:
                raise
            time.sleep(WAIT_SECONDS * (TRIES - left))


def write_file(place: Place, file: ReleaseFile, target: Path) -> None:
    found, size = hashlib.sha256(), 0
    with target.open("wb") as stream:
        for block in place.blocks(f"{RELEASE}/{file.path}"):
            size += len(block)
            if size > file.size:
                break
            found.update(block)
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    if size < file.size:
        target.unlink()
        raise ExternalError(
            f"{place.url}: {file.path} ended after {size} of {file.size} bytes", hint="the same command"
        )
    if size > file.size or found.hexdigest() != file.sha256:
        target.unlink()
        raise RefusedError(
            f"{place.url}: {file.path}: its bytes are not those that the release's digest states",
            hint="push it again: tunegate releases push NAME@DIGEST --to …",
        )


def bring_signature(folder: Path, place: Place) -> None:
    """Where there is one; it is believed only with a key."""
    try:
        content = read(place, SIGNATURE)
    except InputError:
        return
    (folder / SIGNATURE).write_bytes(content)


def read(place: Place, path: str) -> bytes:
    """A small file. Raises RefusedError where it is none."""
    content = b""
    for block in place.blocks(path):
        content += block
        if len(content) > MOST_BYTES:
            raise RefusedError(f"{place.url}: {path} has more than {MOST_BYTES} bytes")
    return content


def link_into(release: Path, target: Path) -> None:
    """`target` shows the release: links to its entries, for it may be a volume's own folder. Raises InputError where it
    holds anything else."""
    target.mkdir(parents=True, exist_ok=True)
    if others := [path.name for path in target.iterdir() if not path.is_symlink()]:
        raise InputError(
            f"{target}: holds {', '.join(sorted(others)[:3])}, expected an empty folder", hint="another --to"
        )
    for old in target.iterdir():
        old.unlink()
    for entry in sorted(release.iterdir()):
        (target / entry.name).symlink_to(entry.absolute())
