"""An agent with a thousand pods a slot on a hundred nodes, which a fake API server tells of: what it holds, what it
asks, how long a switch takes. Routers are processes, and one model server of each slot is.

.venv/bin/python -m benchmarks.cluster.scale 1000
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.prove import FOLDER, Row, console

PODS, NODES, IDLE_SECONDS = 1000, 100, 30
MOST_MB, MOST_REQUESTS, MOST_SWITCH_SECONDS = 300.0, 10.0, 1.0
LONGEST_SECONDS = 300.0
# Releases of a few bytes were never judged.
AGENT = """
import sys, tunegate
from tests.support.judging import judged_when_asked
sys.argv = ["tunegate", "agent", "x"]
with judged_when_asked():
    tunegate.main()
"""


def rows(pods: int = PODS) -> list[Row]:
    from tests.support.cluster_scene import cluster_scene
    from tests.support.fake_servers import publish_fake
    from tests.support.judging import judged_when_asked

    folder = FOLDER.absolute() / "scale"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    with cluster_scene(folder, runs=1, replicas=pods, placed={}, supervision={}) as scene, judged_when_asked():
        releases = publish_fake("one"), publish_fake("two")
        path = folder / "configs/deploy/x.yaml"
        pin(path, releases[0])
        with (folder / "agent.log").open("wb") as log:
            agent = subprocess.Popen([sys.executable, "-c", AGENT], stdout=log, stderr=log)
        try:
            wait_for(scene, releases[0])
            pin(path, releases[1])
            wait_for(scene, releases[1])
            time.sleep(5)
            before = scene.cluster.api.asked
            time.sleep(IDLE_SECONDS)
            asked = (scene.cluster.api.asked - before) / IDLE_SECONDS
            megabytes = resident(agent.pid)
        finally:
            agent.terminate()
            agent.wait(60)
        switched = [event.facts for event in scene.env.record.read() if event.kind == "switched"][-1]
    seconds = (switched["flip_milliseconds"] + switched["first_request_milliseconds"]) / 1000
    head = f"{pods} pods a slot"
    return [
        Row(f"{head}: the agent holds, with all its processes, MB", round(megabytes), f"{MOST_MB:g}",
            megabytes <= MOST_MB),
        Row(f"{head}: requests a second of agent and routers, when nothing happens", round(asked, 1),
            f"{MOST_REQUESTS:g}", asked <= MOST_REQUESTS),
        Row(f"{head}: seconds of a switch, until both routers answer from green", round(seconds, 2),
            f"{MOST_SWITCH_SECONDS:g}", seconds <= MOST_SWITCH_SECONDS),
    ]  # fmt: skip


def pin(path: Path, release: str) -> None:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf8"))
    path.write_text(yaml.safe_dump(found | {"release": release}), encoding="utf8")


def wait_for(scene: Any, release: str) -> None:
    began = time.monotonic()
    while time.monotonic() - began < LONGEST_SECONDS:
        state = scene.env.record.state() if scene.env.record.path.exists() else None
        if state and state.active and state.release_of(state.active) == release and state.baked:
            console.print(f"{release[:20]} serves after {time.monotonic() - began:.0f} s")
            return
        time.sleep(0.5)
    raise RuntimeError((Path("agent.log")).read_text(encoding="utf8")[-2000:])


def resident(pid: int) -> float:
    """Of a process and what it forked, in MB: pages that they share are counted once (PSS)."""
    whole = psutil.Process(pid)
    return float(sum(one.memory_full_info().pss for one in (whole, *whole.children(recursive=True)))) / 1e6


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for row in rows(int(sys.argv[1]) if sys.argv[1:] else PODS):
        print(row)
