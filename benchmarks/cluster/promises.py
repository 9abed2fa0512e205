"""What is promised beyond one machine: the checks of `make prove-cluster` (benchmarks/prove.py)."""

from __future__ import annotations

from benchmarks.cluster.streams import pods, streams
from benchmarks.prove import Check

CHECKS: dict[str, Check] = {"streams": streams, "pods": pods}
