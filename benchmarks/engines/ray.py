"""Ray, a real one of a head and three raylets on this machine: trainings killed at random end with the same bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.engines.ray_here import NODES, Cluster, ray_cluster, wait_for
from benchmarks.engines.slurm import FOLDER, TIMES
from benchmarks.engines.training import disturb_often, kill_worker, rows_of, run_config, scratch, train
from benchmarks.prove import Row


def ray_kills(times: int = TIMES) -> list[Row]:
    """Workers and raylets in turn, each training killed once at a random moment."""
    chance = random.Random(21)
    with ray_cluster((FOLDER / "ray").absolute()) as cluster, scratch(FOLDER / "training-ray"):
        address = {"address": cluster.address}
        expected, _ = train(run_config("ray-undisturbed", engine="ray", ray=address))

        def kill(kind: str, token: str) -> None:
            if kind == "worker":
                kill_worker(Path.cwd(), chance)
            else:
                cluster.kill(chance.choice(busy(cluster, Path.cwd())))

        found = disturb_often("ray", times, kill, lambda: mend(cluster), ray=address)
    return rows_of("Ray", expected, found)


def busy(cluster: Cluster, folder: Path) -> list[str]:
    """Nodes on which launchers run; all where there is none just now."""
    import psutil

    found = [
        name
        for name, node in cluster.nodes.items()
        if name != "head"
        and any(
            str(folder) in word
            for child in psutil.Process(node.pid).children(recursive=True)
            for word in command_of(child)
        )
    ]
    return sorted(found) or list(NODES)


def command_of(process: Any) -> list[str]:
    import psutil

    try:
        return [str(word) for word in process.cmdline()]
    except psutil.Error:
        return []


def mend(cluster: Cluster) -> None:
    for name in NODES:
        if cluster.nodes[name].poll() is not None:
            cluster.boot(name)
            wait_for(cluster, len(NODES) + 1)
