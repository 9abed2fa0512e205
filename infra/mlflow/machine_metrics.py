"""System metrics: what the machine and this process use, under the names of mlflow/system_metrics."""

from __future__ import annotations

import sys

SECONDS_BETWEEN_SAMPLES = 10.0  # as MLflow's own (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL)
MEGABYTE = 1e6


def sample() -> dict[str, float]:
    """Percent and megabytes; the first call's CPU share is since boot, every later one's since the call before (psutil)."""
    import psutil

    memory, process = psutil.virtual_memory(), psutil.Process()
    figures = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": process.memory_info().rss / MEGABYTE,
    }
    return figures | accelerator()


def accelerator() -> dict[str, float]:
    """Only where training has loaded torch and uses a GPU: importing it here would cost seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"system/gpu_0_memory_usage_megabytes": (total - free) / MEGABYTE, "system/gpu_0_memory_usage_percentage": 100 * (total - free) / total}
