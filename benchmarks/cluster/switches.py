"""Switches in the real two-node cluster: real vLLM in the pods, two routers, open streams through their Service; every
stream counted by its client.

.venv/bin/python -m benchmarks.cluster.switches 20    # as root, on Debian, beside shared/
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks.cluster import world
from benchmarks.cluster.old_cluster import run_routers_from_here, speak_to_old_cluster
from benchmarks.prove import FOLDER, Row, console
from configs.environment.config import DeployConfig
from configs.section import JsonObject
from infra.kubernetes.api import Cluster
from tests.paths import ROOT

SWITCHES, STREAMS, TOKENS = 20, 10, 300
MOST_MILLISECONDS = 500.0
SETTINGS: JsonObject = {
    "name": "prod",
    "model": "m",
    "gate": None,
    "router": {"port": 8080},
    "drain_deadline_seconds": 400,
    "bake_seconds": 1,
    "watch": {"on_inconclusive": "accept"},
    "state_dir": "state",
    # Two cores carry the control plane, both nodes, two routers and two model servers, all at nice 19.
    "supervision": {"stay": False, "probe_timeout_seconds": 120},
}


def rows(switches: int = SWITCHES) -> list[Row]:
    """The cluster's addresses are known in its own network alone: the work is done there."""
    world.bring_up()
    folder = FOLDER.absolute() / "cluster-switches"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    words = world.inside(sys.executable, "-m", "benchmarks.cluster.switches", "inside", str(folder), str(switches))
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    return rows_of(json.loads((folder / "seen.json").read_text(encoding="utf8")))


def rows_of(seen: JsonObject) -> list[Row]:
    count = {outcome: sum(one["outcome"] == outcome for one in seen["lines"]) for outcome in ("cut", "failed")}
    flips = [max(one["flip_milliseconds_by_router"].values(), default=0.0) for one in seen["switched"]]
    routers = [len(one["flip_milliseconds_by_router"]) for one in seen["switched"]]
    opened = [sum(slot["open"] for slot in one["before"].values()) for one in seen["switched"]]
    longest = max((one["seconds"] for one in seen["lines"]), default=0.0)
    opens = f"{min(opened)} to {max(opened)} streams open, the longest {longest:.0f} s"
    head = f"{len(flips)} switches in a real cluster, real vLLM in the pods, {opens}"
    return [
        Row(f"{head}: streams cut of {len(seen['lines'])}", count["cut"], "0", not count["cut"]),
        Row("the same: requests failed", count["failed"], "0", not count["failed"]),
        Row(f"the same: slowest flip of a router, of {min(routers)} or more at each switch, ms", max(flips),
            f"{MOST_MILLISECONDS:g}", max(flips) <= MOST_MILLISECONDS and min(routers) >= 2),
        Row("the same: receipts' own count of streams cut", seen["cut_by_receipts"], "0", not seen["cut_by_receipts"]),
    ]  # fmt: skip


def inside(folder: Path, switches: int) -> None:
    """Every second switch starts a release's pods, the others go back to those that are warm."""
    from benchmarks.serve.switches import Load, clients, wait_for_streams
    from serve.deploy import deploy, rollback, stop_all
    from serve.record.environment import Environment
    from serve.record.receipt import read_receipts
    from tests.support.judging import judged_when_asked

    with chdir(folder), environment(folder) as (config, releases), judged_when_asked():
        env = Environment(config, report_progress=lambda line: console.print(line, markup=False))
        deploy(env, releases[0])
        service = Cluster.of(config.placement).read("Service", "prod-router")  # type: ignore[arg-type]
        assert service
        url = f"http://{service['spec']['clusterIP']}:{config.router.port}"
        load = Load(STREAMS, TOKENS, 0, 0)
        try:
            with clients(folder, url, config.model, load) as close:
                for number in range((switches + 1) // 2):
                    wait_for_streams(env, STREAMS)
                    deploy(env, releases[1])
                    if 2 * number + 1 < switches:
                        wait_for_streams(env, STREAMS)
                        rollback(env)
                    console.print(f"{2 * number + 2} of {switches} switches")
                lines = close()
            seen = {
                "lines": [{key: one.get(key) for key in ("kind", "outcome", "seconds", "release")} for one in lines],
                "switched": [event.facts for event in env.record.read() if event.kind == "switched"][1:],
                "cut_by_receipts": sum(one["streams_cut"] for one in read_receipts(env)),
            }
            (folder / "seen.json").write_text(json.dumps(seen), encoding="utf8")
        finally:
            stop_all(env)


@contextmanager
def environment(folder: Path) -> Iterator[tuple[DeployConfig, list[str]]]:
    """Two releases, pushed where pods fetch them from; the namespace, its rights and its Secret."""
    from infra.manifests.access import access_objects
    from tests.support.tiny_release import write_release

    speak_to_old_cluster()
    run_routers_from_here()
    releases = [write_release(folder, name, seed, enforce_eager=True) for seed, name in enumerate(("one", "two"), 1)]
    pushed = folder / "pushed"
    for one in releases:
        subprocess.run([sys.executable, "-m", "tunegate", "releases", "push", one, "--to", str(pushed)], check=True)
    placement = world.placement(pushed, replicas=1, routers=2)
    config = DeployConfig.model_validate(SETTINGS | {"placement": placement})
    token, key = secrets.token_hex(32), f"sk-{secrets.token_hex(20)}"
    variables = {"TUNEGATE_ROUTER_TOKEN": token, config.router.api_key_env: key, "TUNEGATE_PROVE_KEY": key}
    with world.namespace(pushed) as cluster, patch.dict(os.environ, variables):
        for thing in access_objects(config):
            cluster.apply(thing)
        cluster.apply(secret_of("prod-router", {"TUNEGATE_ROUTER_TOKEN": token, config.router.api_key_env: key}))
        yield config, releases


def secret_of(name: str, values: dict[str, str]) -> JsonObject:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def main() -> None:
    if sys.argv[1] == "inside":
        began = time.monotonic()
        inside(Path(sys.argv[2]), int(sys.argv[3]))
        console.print(f"{time.monotonic() - began:.0f} s")
        return
    for row in rows(int(sys.argv[1])):
        print(row)


if __name__ == "__main__":
    main()
