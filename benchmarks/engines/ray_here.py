"""Ray on this machine: a head that takes no work, and three nodes beside it, each a raylet that can be killed whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

NODES, CPUS_PER_NODE = ("r1", "r2", "r3"), 2


@dataclass
class Cluster:
    """`nodes`: the process group of each node's raylet and its workers."""

    folder: Path
    address: str = ""
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def boot(self, name: str) -> None:
        self.start(name, "--address", self.address, "--num-cpus", str(CPUS_PER_NODE))

    def start(self, name: str, *options: str) -> None:
        """In the foreground; the raylet and its workers are its descendants."""
        log = (self.folder / f"{name}.log").open("ab")
        ray = str(Path(sys.executable).with_name("ray"))
        common = ["--block", "--disable-usage-stats", "--num-gpus", "0", "--object-store-memory", "100000000"]
        self.nodes[name] = subprocess.Popen(
            [ray, "start", *common, *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"RAY_worker_niceness": "0"},  # 15 otherwise: beside other work it would starve
        )

    def kill(self, name: str) -> None:
        """At once, with all that it runs. No PID namespace as for Slurm's nodes: a raylet asks whether a driver's
        process is still there."""
        import psutil

        node = psutil.Process(self.nodes[name].pid)
        for process in [node, *node.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes[name].wait()


def alive(address: str) -> int:
    """Nodes that the head takes for alive, itself among them."""
    ask = (
        "import ray,sys,logging; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR);"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    done = subprocess.run([sys.executable, "-c", ask, address], capture_output=True, text=True, timeout=120)
    return int(done.stdout.split()[-1]) if done.returncode == 0 and done.stdout.split() else 0


@contextmanager
def ray_cluster(folder: Path, port: int = 26379) -> Iterator[Cluster]:
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, f"127.0.0.1:{port}")
    try:
        cluster.start("head", "--head", "--include-dashboard=false", "--port", str(port), "--num-cpus", "0")
        wait_for(cluster, 1)
        for count, name in enumerate(NODES, 2):
            cluster.boot(name)
            wait_for(cluster, count)
        yield cluster
    finally:
        for name, process in cluster.nodes.items():
            if process.poll() is None:
                cluster.kill(name)


def wait_for(cluster: Cluster, count: int, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while alive(cluster.address) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Ray has not {count} nodes: see {cluster.folder}")
        time.sleep(1)
