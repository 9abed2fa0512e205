"""The micro-benchmark: a process of its own, once for each shape, and a clear word where it cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ExternalError
from train.estimate import probe
from train.estimate.duration import Rates
from train.estimate.model_shape import ModelShape
from train.estimate.row_figures import RowFigures
from train.estimate.workload import Computation, Workload

pytestmark = pytest.mark.unit
TINY = ModelShape("decoder", 64, 128, 2, 4, 2, 16, 300, 100_000, 200_000, 2, True)
FIGURES = asdict(Rates(1.0, 2.0, 3.0, 4.0, 5.0))


def load() -> Workload:
    return Workload(
        RowFigures(256, 64.0, 0, 1.0, 1, 1),
        Computation(8, 1, 1, 1, 4, True, False, "float32", False, False, True, True),
    )


@pytest.mark.parametrize("rank", [4, None])
@pytest.mark.parametrize("shape", [TINY, replace(TINY, family="encoder", key_value_heads=4)])
def test_both_families_and_both_methods_have_every_rate(shape: ModelShape, rank: int | None) -> None:
    found = probe.probe(
        {"shape": asdict(shape), "batch": 2, "length": 16, "rank": rank, "dtype": "float32", "narrow": False}
    )
    assert Rates(**found).head_seconds_per_token > 0 and all(seconds >= 0 for seconds in found.values())


def test_it_is_measured_once_an_hour_with_no_more_tokens_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(json.loads(command[-1]))
        return SimpleNamespace(returncode=0, stdout=json.dumps(FIGURES))

    monkeypatch.setattr(subprocess, "run", run)
    assert (
        probe.measure_rates(TINY, load(), tmp_path) == probe.measure_rates(TINY, load(), tmp_path) == Rates(**FIGURES)
    )
    assert len(calls) == 1 and (calls[0]["batch"], calls[0]["length"], calls[0]["rank"]) == (8, 64, 4)
    probe.measure_rates(replace(TINY, hidden=32), load(), tmp_path)
    long = replace(load(), rows=replace(load().rows, mean=4096.0))
    probe.measure_rates(TINY, long.computed_with(adapted=False), tmp_path)
    for path in tmp_path.iterdir():
        os.utime(path, (0, path.stat().st_mtime - probe.FRESH_SECONDS - 1))
    probe.measure_rates(TINY, load(), tmp_path)
    assert len(calls) == 4 and (calls[2]["batch"], calls[2]["length"], calls[2]["rank"]) == (1, probe.MOST_TOKENS, None)


def test_without_the_training_environment_another_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExternalError, match=r"cannot be measured: no word\n  try: make setup .*--device"):
        probe.measure_rates(TINY, load(), tmp_path)
