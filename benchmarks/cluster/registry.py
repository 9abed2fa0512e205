"""Releases through a real OCI registry (Debian's docker-registry 2.8, and skopeo to look at what lies there): put,
fetched, fetched again, and killed in the middle."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.prove import Row, run
from configs.release import Manifest, digest_of, list_files, verify_release
from configs.run.serving import Serving

FOLDER = Path("build/prove/registry")
SHARDS, SHARD_BYTES, KILLS = 8, 32 * 2**20, 20
TUNEGATE = (sys.executable, str(Path(__file__).parents[2] / "tunegate.py"))


def registry() -> list[Row]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with chdir(FOLDER), registry_server() as address:
        reference, url = make_release(), f"oci://{address}/team/releases"
        place = run(*TUNEGATE, "releases", "push", reference, "--to", url).stdout.strip()
        seen = skopeo(address, place)
        seconds = [timed(reference, url) for _ in range(3)]
        again = whole_after_kills(reference, url)
    gib = SHARDS * SHARD_BYTES / 2**30
    return [
        Row(
            "the artifact, as skopeo reads it from docker-registry 2.8", seen, "one layer a file", seen == layers_said()
        ),
        Row(
            f"a release of {gib:.2f} GiB by three pods of one node",
            f"{seconds[0]:.1f} s fetched; then {seconds[1]:.1f} s, {seconds[2]:.1f} s",
            "shown",
            True,
        ),
        Row(
            f"{KILLS} fetches killed at random moments: no torn release seen, and then fetched whole",
            f"{again[0]} of {KILLS}, {'whole' if again[1] else 'torn'}",
            f"{KILLS} of {KILLS}, whole",
            again == (KILLS, True),
        ),
    ]


@contextmanager
def registry_server() -> Iterator[str]:
    """On loopback, in this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": "store"}}, "http": {"addr": address}}
    Path("registry.json").write_text(json.dumps(config), encoding="utf8")
    with open("registry.log", "w") as log:
        server = subprocess.Popen(["docker-registry", "serve", "registry.json"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                    break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def make_release() -> str:
    """Random bytes, published here as far as `push` looks."""
    folder, source = Path("releases/.made/release"), random.Random(17)
    folder.mkdir(parents=True)
    for number in range(SHARDS):
        (folder / f"model-{number}.safetensors").write_bytes(source.randbytes(SHARD_BYTES))
    files = list_files(folder)
    facts: dict[str, Any] = {name: {} for name in ("base", "data", "quantization", "versions", "config")}
    facts |= {"git_revision": "x", "created": "2026-11-28"}
    manifest = Manifest(name="demo", digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
    folder.parent.rename(f"releases/demo@{manifest.digest[7:19]}")
    return manifest.reference


def skopeo(address: str, place: str) -> str:
    """The raw manifest, by the digest that went on record."""
    digest = place.rpartition("@")[2]
    where = f"docker://{address}/team/releases@{digest}"
    found = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", where).stdout)
    return f"{found['artifactType']}, {len(found['layers'])} layers"


def layers_said() -> str:
    return f"application/vnd.tunegate.release.v1, {SHARDS + 1} layers"


def fetch_command(reference: str, url: str, cache: str, to: str) -> list[str]:
    return [*TUNEGATE, "fetch", reference, "--from", url, "--cache", cache, "--to", to]


def timed(reference: str, url: str) -> float:
    began = time.monotonic()
    run(*fetch_command(reference, url, "cache", "shown"))
    return time.monotonic() - began


def whole_after_kills(reference: str, url: str) -> tuple[int, bool]:
    """How many kills left no torn release in the cache, and whether the last fetch is whole."""
    source, digest, good = random.Random(17), reference.partition("@")[2], 0
    seen = Path("killed") / digest.replace(":", "-") / "release"
    for _ in range(KILLS):
        shutil.rmtree(seen.parent, ignore_errors=True)
        process = subprocess.Popen(fetch_command(reference, url, "killed", "shown-killed"), stdout=subprocess.DEVNULL)
        time.sleep(source.uniform(0.5, 4))
        process.kill()
        process.wait()
        good += not seen.exists() or bool(verify_release(seen, digest))
    run(*fetch_command(reference, url, "killed", "shown-killed"))
    return good, bool(verify_release(Path("shown-killed"), digest)) and os.path.islink("shown-killed/manifest.json")
