"""Room for two, for one, or for none: the arithmetic is pure and says itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest, read_manifest
from configs.run.serving import Serving
from infra.boot import ProcessId
from infra.dvc.releases import folder_of
from infra.vllm.server import SlotProcess
from serve.plan.capacity import (
    HOST_GIB,
    OVERHEAD_GIB,
    RESERVE_GIB,
    START_SECONDS,
    Need,
    check_devices,
    decide,
    estimate_start,
    need_of,
    resident_gib,
)
from serve.record.event import PROOF, Event
from serve.record.fold import fold
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
NEED = Need(weights=0.25, key_value_cache=1.0)


def config(**facts: Any) -> DeployConfig:
    return DeployConfig.model_validate({"name": "x", "model": "m", "gate": None} | facts)


def test_smollm2_needs_what_was_measured() -> None:
    assert (
        NEED.total == pytest.approx(3.6)
        and str(NEED) == "0.25 weights + 1.00 key-value cache + 2.35 overhead = 3.60 GiB"
    )


@pytest.mark.parametrize(
    ("capacity", "free", "serving", "mode"),
    [
        ("auto", 10.0, 3.6, "surge"),
        ("auto", 4.2, 3.6, "surge"),
        ("auto", 4.0, 3.6, "swap"),
        ("auto", 4.2, None, "surge"),
        ("swap", 10.0, 3.6, "swap"),
        ("swap", 10.0, None, "surge"),
        ("surge", 4.2, 3.6, "surge"),
    ],
)
def test_both_at_once_where_they_fit_else_one_in_place_of_the_other(
    capacity: str, free: float, serving: float | None, mode: str
) -> None:
    found = decide(config(capacity=capacity), NEED, free, serving, 50)
    assert (
        found["mode"] == mode
        and found["why"].startswith(f"{mode}: needs 0.25 weights")
        and (found["need_gib"], found["free_gib"]) == (3.6, free)
    )


@pytest.mark.parametrize(
    ("facts", "free", "serving", "start", "why"),
    [
        ({"capacity": "surge"}, 4.0, 3.6, 50, "no memory for one more server"),
        ({}, 4.0, None, 50, "no memory for one more server"),
        ({}, 1.0, 2.9, 50, "no memory even in place of what serves"),
        ({}, 4.0, 3.6, 120, "its start and proofs take about 120 s, requests may wait 120 s"),
        ({"router": {"queue_seconds": 30}}, 4.0, 3.6, 50, "requests may wait 30 s"),
    ],
)
def test_what_cannot_fit_or_would_take_too_long_is_refused_with_its_arithmetic(
    facts: dict[str, Any], free: float, serving: float | None, start: float, why: str
) -> None:
    with pytest.raises(RefusedError, match=why) as error:
        decide(config(**facts), NEED, free, serving, start)
    assert "3.60 GiB" in error.value.message and error.value.hint


@given(
    free=st.floats(0, 64),
    serving=st.none() | st.floats(0, 32),
    start=st.floats(0, 400),
    weights=st.floats(0.01, 40),
    mode=st.sampled_from(["auto", "surge", "swap"]),
)
def test_nothing_is_ever_planned_that_does_not_fit(
    free: float, serving: float | None, start: float, weights: float, mode: str
) -> None:
    need = Need(weights, 1.0)
    try:
        found = decide(config(capacity=mode), need, free, serving, start)
    except RefusedError:
        assert need.total > free - RESERVE_GIB or mode == "swap"
        return
    room = free - RESERVE_GIB + (serving or 0.0 if found["mode"] == "swap" else 0.0)
    assert need.total <= room
    if found["mode"] == "swap":
        assert start + found["drain_seconds"] <= 120.1 and serving is not None


def test_why_an_adapter_gets_a_server_of_its_own_is_part_of_the_arithmetic() -> None:
    found = decide(config(capacity="adapter"), NEED, 10.0, 3.6, 50, "two@0123 holds merged weights")
    assert found["mode"] == "surge" and found["why"].endswith(
        "kept back; no adapter beside what serves: two@0123 holds merged weights"
    )
    assert decide(config(capacity="adapter"), NEED, 4.0, 3.6, 50, "another base")["mode"] == "swap"


def test_the_estimate_is_what_was_last_measured_here_else_what_was_measured_elsewhere() -> None:
    def proven(proof: str, seconds: float) -> Event:
        facts = {"proof": proof, "seconds": seconds}
        return Event(at="2026-11-28T00:00:00+00:00", kind="proven", slot="blue", facts=facts)

    known = fold([*(proven(proof, 9) for proof in PROOF), proven("healthy", 2)]).proof_seconds
    assert estimate_start(config(), {}) == pytest.approx(START_SECONDS + 10)
    assert estimate_start(config(), known) == 2 + 4 * 9


def test_the_need_of_a_release_is_its_weights_its_cache_and_the_overhead(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from configs.release import read_manifest
    from infra.dvc.releases import find

    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(find(publish("one")) / "release")
    need = need_of(manifest)
    assert need.weights * 2**30 == 3 and need.total == pytest.approx(
        OVERHEAD_GIB + manifest.serving.kv_cache_gib, abs=1e-6
    )


def test_what_serves_would_free_its_own_pages_and_nothing_once_it_is_gone(tmp_path: Any) -> None:
    import os

    assert 0 < resident_gib(SlotProcess(ProcessId(os.getpid(), "", 0), 1, tmp_path)) < 8
    assert resident_gib(SlotProcess(ProcessId(2**22 + 1, "", 0), 1, tmp_path)) == 0.0


def test_where_a_gpu_serves_the_hosts_memory_holds_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """140 GB of weights on a host of 128 GB fit two GPUs of 80 GB."""
    monkeypatch.chdir(tmp_path)
    manifest = spread(read_manifest(folder_of(publish("demo")) / "release"), device="cuda", tensor_parallel_size=4)
    need = need_of(manifest, 2)
    assert (need.weights, need.key_value_cache, need.total) == (0.0, 0.0, 2 * 4 * HOST_GIB)


def spread(manifest: Manifest, **serving: Any) -> Manifest:
    return manifest.model_copy(update={"serving": Serving.model_validate(serving)})


@pytest.mark.parametrize(
    ("serving", "devices", "refused"),
    [
        ({}, None, None),
        ({}, [["0"], ["1"]], None),
        ({"tensor_parallel_size": 2}, None, None),
        ({"tensor_parallel_size": 2}, [["0"], ["1", "2"]], "blue's server 1 0; .* spread over 2"),
        (
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            [["0", "1", "2", "3"], ["4", "5"]],
            "green's server 1",
        ),
        ({"tensor_parallel_size": 2}, [["0", "1"], ["2", "3"]], None),
    ],
)
def test_a_server_sees_as_many_gpus_as_its_release_is_spread_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: dict[str, Any], devices: Any, refused: str | None
) -> None:
    """Refused before anything is started; vLLM itself would say so minutes later."""
    monkeypatch.chdir(tmp_path)
    manifest = spread(read_manifest(folder_of(publish("demo")) / "release"), device="cuda", **serving)
    slots = {"devices": {"blue": devices[:1], "green": devices[1:]}} if devices else {}
    if refused is None:
        check_devices(config(slots=slots), manifest)
        return
    with pytest.raises(RefusedError, match=refused):
        check_devices(config(slots=slots), manifest)
