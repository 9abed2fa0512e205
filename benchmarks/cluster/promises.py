"""What is promised beyond one machine: the checks of `make prove-cluster` (benchmarks/prove.py)."""

from __future__ import annotations

from benchmarks.cluster import scale, switches
from benchmarks.cluster.admission import admission
from benchmarks.cluster.charts import charts
from benchmarks.cluster.registry import registry
from benchmarks.cluster.streams import pods, streams
from benchmarks.engines.pipelines import pipelines
from benchmarks.engines.ray import ray_kills
from benchmarks.engines.same_bytes import same_bytes
from benchmarks.engines.slurm import slurm_kills
from benchmarks.engines.sweeps import sweeps
from benchmarks.prove import Check

CHECKS: dict[str, Check] = {
    "streams": streams,
    "pods": pods,
    "scale": scale.rows,
    "switches": switches.rows,
    "sweeps": sweeps,
    "pipelines": pipelines,
    "charts": charts,
    "admission": admission,
    "registry": registry,
    "slurm": slurm_kills,
    "ray": ray_kills,
    "same-bytes": same_bytes,
}
