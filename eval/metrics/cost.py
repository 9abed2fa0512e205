"""What the answers cost: seconds, tokens, bytes of weights, memory of the server."""

from __future__ import annotations

from pathlib import Path

from configs.release import Manifest
from eval.metrics.aggregate import read_columns


def size_of(manifest: Manifest) -> int:
    """Bytes of weights."""
    return sum(file.size for file in manifest.files if file.path.endswith(".safetensors"))


def cost(predictions: Path, manifest: Manifest, peak_memory_bytes: int | None) -> dict[str, float]:
    """Latency in seconds with evaluate.concurrency requests in flight, tokens a row. What could not be measured is left
    out."""
    frame = read_columns(predictions, {"latency_seconds", "prompt_tokens", "completion_tokens"})
    latency = frame["latency_seconds"]
    figures: dict[str, float] = {
        "latency_mean_seconds": latency.mean(),
        "latency_p50_seconds": float(latency.quantile(0.5)),
        "latency_p95_seconds": float(latency.quantile(0.95)),
    }
    figures |= {
        f"{name}_mean": frame[name].mean() for name in ("prompt_tokens", "completion_tokens") if frame[name].any()
    }
    return (
        {name: float(value) for name, value in figures.items()}
        | {"size_bytes": size_of(manifest)}
        | ({} if peak_memory_bytes is None else {"peak_memory_bytes": peak_memory_bytes})
    )
