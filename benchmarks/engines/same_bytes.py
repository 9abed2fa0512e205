"""One YAML, one digest: on this machine, on Slurm, on Ray, for the same number of processes and threads."""

from __future__ import annotations

from benchmarks.engines.ray_here import ray_cluster
from benchmarks.engines.slurm import FOLDER
from benchmarks.engines.slurm_here import slurm
from benchmarks.engines.training import run_config, scratch, train
from benchmarks.prove import Row


def same_bytes() -> list[Row]:
    """Two processes of one thread: beside one another here, on a node each there; and one training that is sent to
    Slurm and Ray as one process of two threads."""
    found: dict[str, list[str]] = {"two processes": [], "one of two threads": []}
    shapes = {"two processes": {"nodes": 2, "threads": 1}, "one of two threads": {"nodes": 1, "threads": 2}}
    with scratch(FOLDER / "same-bytes"):
        for name, shape in shapes.items():
            here = {"nodes": 1, "processes": shape["nodes"], "threads": shape["threads"]}
            found[name].append(train(run_config(f"local-{shape['nodes']}", engine="local", **here))[0])
        with slurm((FOLDER / "slurm").absolute()):
            for name, shape in shapes.items():
                found[name].append(train(run_config(f"slurm-{shape['nodes']}", engine="slurm", **shape))[0])
        with ray_cluster((FOLDER / "ray").absolute()) as cluster:
            for name, shape in shapes.items():
                address = {"address": cluster.address}
                found[name].append(train(run_config(f"ray-{shape['nodes']}", engine="ray", ray=address, **shape))[0])
    return [
        Row(
            f"one YAML, {name}: digests on this machine, Slurm and Ray",
            ", ".join(digest[:12] for digest in digests),
            "one and the same",
            len(digests) == 3 and len(set(digests)) == 1,
        )
        for name, digests in found.items()
    ]
