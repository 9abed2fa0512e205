"""What a manifest says of a release's compression."""

from __future__ import annotations

from typing import Any, TypedDict


class CalibrationFacts(TypedDict):
    """The rows that were looked at, and their fingerprint."""

    split: str
    rows: int
    seed: int
    fingerprint: str


class PruneFacts(TypedDict):
    """`sparsity` is what was asked for, `measured_sparsity` the share of zeros that came of it."""

    method: str
    structure: str
    sparsity: float
    recovery_steps: int
    measured_sparsity: float


class QuantizationFacts(TypedDict, total=False):
    """`rank` and `layers`: of an adapter that is served unmerged; `key`: of the inputs that the release is made
    from; `generation_removed`: what of the base's generation_config.json changed greedy answers."""

    prune: PruneFacts
    scheme: str
    algorithm: str
    group_size: int
    smoothquant: float
    rank: int
    layers: list[str]
    calibration: CalibrationFacts
    generation_removed: dict[str, Any]
    size_bytes: int
    parent_size_bytes: int
    parent_digest: str
    key: str
