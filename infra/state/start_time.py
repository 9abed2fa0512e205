"""How long a server may take until it is healthy: by the bytes that it has to load, and by how long the last start of
this release, or of one of about its size, took on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from configs.release import Manifest
from infra.files.user_cache import Content, cache_file, change_cache, read_cache

LEAST_SECONDS = 300.0  # for imports, compilation and CUDA graphs, whatever the size
LONGEST_SECONDS = 3 * 3600.0  # what has not come up by then has stopped working
SLOWEST_BYTES_PER_SECOND = 100e6  # of weights read for the first time: a spinning disk, a shared network file system
MARGIN = 3.0  # the last start had its files in the page cache, or the machine to itself
ALIKE = 2.0  # sizes up to this factor apart
MOST_KNOWN = 100


class Start(NamedTuple):
    """A start that was measured: the release's digest and bytes, and the seconds until the server was healthy."""

    digest: str
    size_bytes: int
    seconds: float


def start_timeout(
    digest: str, size_bytes: int, starts: Iterable[Start], stated: float | None = None, least: float = LEAST_SECONDS
) -> float:
    """Seconds; pure. `stated`: by a YAML, which is obeyed. `starts`: what is known of this machine."""
    if stated is not None:
        return stated
    known = {start.digest: start for start in starts if start.seconds > 0}
    alike = [one for one in known.values() if size_bytes / ALIKE <= one.size_bytes <= size_bytes * ALIKE]
    found = [known[digest]] if digest in known else alike
    measured = max((one.seconds * max(1.0, size_bytes / max(one.size_bytes, 1)) for one in found), default=0.0)
    return min(max(least + size_bytes / SLOWEST_BYTES_PER_SECOND, MARGIN * measured), LONGEST_SECONDS)


def timeout_of(
    manifest: Manifest, stated: float | None = None, last: float | None = None, least: float = LEAST_SECONDS
) -> float:
    """As `start_timeout`, of this machine. `last`: seconds of the last start as an environment's record has it, of
    whatever release."""
    starts = known_starts()
    starts += [Start(manifest.digest, size_of(manifest), last)] if last and usual_seconds(manifest) is None else []
    return start_timeout(manifest.digest, size_of(manifest), starts, stated, least)


def usual_seconds(manifest: Manifest) -> float | None:
    """How long its last start took here."""
    return next((one.seconds for one in known_starts() if one.digest == manifest.digest), None)


def note_start(manifest: Manifest, seconds: float | None) -> None:
    """None: it was not seen to start."""
    if seconds is not None and seconds > 0:
        entry = {manifest.digest: [size_of(manifest), round(seconds, 1), round(time.time())]}
        change_cache(cache_file("starts.json"), lambda found: latest(found | entry))


def latest(found: Content) -> Content:
    kept = sorted((one for one in found.items() if is_entry(one[1])), key=lambda one: one[1][2])
    return dict(kept[-MOST_KNOWN:])


def known_starts() -> list[Start]:
    found = read_cache(cache_file("starts.json"))
    return [Start(digest, entry[0], float(entry[1])) for digest, entry in found.items() if is_entry(entry)]


def is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(type(one) in (int, float) for one in entry)


def size_of(manifest: Manifest) -> int:
    return sum(file.size for file in manifest.files)
