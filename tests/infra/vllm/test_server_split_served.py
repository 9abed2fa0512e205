"""A real vLLM whose layers are split over two processes answers as the trainer did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.release import read_manifest
from infra.dvc.releases import folder_of
from infra.vllm.parity import check_parity
from infra.vllm.server import temporary_slot
from tests.serve.conftest import checkout, publish

__all__ = ["checkout", "publish"]  # fixtures
pytestmark = pytest.mark.integration


def test_split_over_two_processes_a_release_keeps_parity(publish: Callable[..., str]) -> None:
    directory = folder_of(publish("split", 3, tensor_parallel_size=2)) / "release"
    manifest = read_manifest(directory)
    log = Path("split.log")
    with temporary_slot(directory, manifest, served_name="m", log=log, timeout_seconds=600) as base_url:
        found = check_parity(base_url, "m", directory, manifest)
    assert found.passed and found.agreement == 1.0
    assert "world_size=2" in log.read_text(encoding="utf8")
