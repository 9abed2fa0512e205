"""A model that is split over a CPU's cores: which each part gets, and that a real vLLM answers as the trainer did."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.release import read_manifest
from configs.run.serving import Serving
from infra.dvc.releases import folder_of
from infra.vllm.arguments import cores_of_workers
from infra.vllm.parity import check_parity
from infra.vllm.server import temporary_slot
from tests.serve.conftest import checkout, publish

__all__ = ["checkout", "publish"]  # fixtures


@pytest.mark.unit
@pytest.mark.parametrize(
    ("cores", "serving", "nodes", "bound"),
    [
        ({0, 1}, {"tensor_parallel_size": 2}, 1, "0|1"),
        ({0, 1}, {"tensor_parallel_size": 3}, 1, "0|1|0"),
        ({0, 1, 2, 3, 8}, {"tensor_parallel_size": 2}, 1, "0,1|2,3"),
        ({0, 1, 2, 3}, {"tensor_parallel_size": 2}, 2, None),
        ({0, 1}, {}, 1, None),
        ({0, 1}, {"tensor_parallel_size": 2, "device": "cuda", "dtype": "bfloat16"}, 1, None),
    ],
    ids=["two cores", "fewer cores than parts", "one too many", "a node each: vLLM's choice", "not split", "a GPU"],
)
def test_a_model_that_is_split_over_a_cpus_cores_has_some_for_each_part(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cores: set[int],
    serving: dict[str, Any],
    nodes: int,
    bound: str | None,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    for number in range(nodes):
        (tmp_path / f"node{number}").mkdir()
    (tmp_path / "node_state").touch()
    given = Serving.model_validate({"device": "cpu"} | serving)
    assert cores_of_workers(given, tmp_path).get("VLLM_CPU_OMP_THREADS_BIND") == bound
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "1|0")
    assert cores_of_workers(given, tmp_path) == {}, "an owner's own choice"


@pytest.mark.integration
def test_split_over_two_processes_a_release_keeps_parity(publish: Callable[..., str]) -> None:
    directory = folder_of(publish("split", 3, tensor_parallel_size=2)) / "release"
    manifest = read_manifest(directory)
    log = Path("split.log")
    with temporary_slot(directory, manifest, served_name="m", log=log, timeout_seconds=600) as base_url:
        found = check_parity(base_url, "m", directory, manifest)
    assert found.passed and found.agreement == 1.0
    assert "world_size=2" in log.read_text(encoding="utf8")
