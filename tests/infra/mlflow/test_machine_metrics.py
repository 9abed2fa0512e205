"""System metrics under MLflow's names."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from infra.mlflow.machine_metrics import sample

pytestmark = pytest.mark.unit


def test_shares_are_percents_and_this_process_fits_into_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    figures = sample()
    assert all(0 <= figures[f"system/{name}"] <= 100 for name in ("cpu_utilization_percentage", "system_memory_usage_percentage"))
    assert 0 < figures["system/process_memory_usage_megabytes"] < figures["system/system_memory_usage_megabytes"] * 10
    assert len(figures) == 4


def test_a_gpu_is_sampled_where_training_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, mem_get_info=lambda: (60_000_000, 80_000_000))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    figures = sample()
    assert (figures["system/gpu_0_memory_usage_megabytes"], figures["system/gpu_0_memory_usage_percentage"]) == (20.0, 25.0)
