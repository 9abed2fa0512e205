"""Slurm, a real one of three nodes on this machine: trainings killed at random end with the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.engines.slurm_here import Cluster, nodes_of, slurm, wait_for_idle
from benchmarks.engines.training import disturb_often, kill_worker, rows_of, run_config, scratch, train
from benchmarks.prove import Row

FOLDER, TIMES = Path("build/cluster"), 20
NODES = ("n1", "n2", "n3")


def slurm_kills(times: int = TIMES) -> list[Row]:
    """Workers and nodes in turn, each training killed once at a random moment."""
    chance = random.Random(20)
    with slurm((FOLDER / "slurm").absolute()) as cluster, scratch(FOLDER / "training"):
        expected, _ = train(run_config("slurm-undisturbed", engine="slurm"))

        def kill(kind: str, token: str) -> None:
            if kind == "worker":
                kill_worker(Path.cwd(), chance)
            elif nodes := nodes_of(token):
                cluster.kill(chance.choice(nodes))

        found = disturb_often("slurm", times, kill, lambda: mend(cluster))
    return rows_of("Slurm", expected, found)


def mend(cluster: Cluster) -> None:
    for name in NODES:
        if cluster.nodes[name].poll() is not None:
            cluster.boot(name)
    wait_for_idle(len(NODES))
