"""What is promised beyond one machine: the checks of `make prove-cluster` (benchmarks/prove.py)."""

from __future__ import annotations

from benchmarks.cluster.pipelines import pipelines
from benchmarks.cluster.sweeps import sweeps
from benchmarks.prove import Check

CHECKS: dict[str, Check] = {"sweeps": sweeps, "pipelines": pipelines}
