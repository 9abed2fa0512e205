"""Load figures: what was not measured is left out, and a failure never hides in a percentile."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import OutsideError
from serve.loadtest import read_samples, run_load_test, summarise

pytestmark = pytest.mark.unit


def sample(ok: bool = True, first: float | None = 0.1, seconds: float = 0.5, tokens: int = 5, at: float = 0.0) -> dict[str, Any]:
    return {"ok": ok, "status": 200 if ok else 500, "seconds": seconds, "first": first, "tokens": tokens, "at": at}


def test_no_request_gives_no_rate() -> None:
    assert summarise([]) == {"requests": 0, "failures": 0}


def test_all_failures_give_an_error_rate_and_no_latency() -> None:
    figures = summarise([sample(ok=False), sample(ok=False, first=None)])
    assert figures["error_rate"] == 1 and "time_to_first_token_p95_ms" not in figures and "latency_p50_ms" not in figures


def test_figures_of_a_known_run() -> None:
    figures = summarise([sample(first=0.1, at=0.0), sample(first=0.3, seconds=0.7, at=0.3)])
    assert figures["time_to_first_token_p50_ms"] == pytest.approx(200)
    assert figures["inter_token_p50_ms"] == pytest.approx(100)
    assert figures["requests_per_second"] == pytest.approx(2.0) and figures["tokens_per_second"] == pytest.approx(10.0)


def test_a_classifier_has_latency_and_no_first_token() -> None:
    figures = summarise([sample(first=None, tokens=0)])
    assert figures["latency_p95_ms"] == pytest.approx(500) and "time_to_first_token_p50_ms" not in figures


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 10), st.floats(0.001, 10)), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_counts_add_up(rows: list[tuple[bool, float, float]]) -> None:
    figures = summarise([sample(ok, first, first + rest) for ok, first, rest in rows])
    assert figures["failures"] == sum(not ok for ok, _, _ in rows) and 0 <= figures["error_rate"] <= 1
    if any(ok for ok, _, _ in rows):
        assert figures["latency_p50_ms"] <= figures["latency_p95_ms"] <= figures["latency_p99_ms"]


def test_samples_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "load.jsonl"
    assert read_samples(path) == []
    path.write_text(json.dumps(sample()) + "\n" + json.dumps(sample(ok=False)) + "\n")
    assert [one["ok"] for one in read_samples(path)] == [True, False]


def test_a_locust_that_fails_is_an_outside_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *a, **k: SimpleNamespace(returncode=2, stderr="no such host"))
    with pytest.raises(OutsideError, match="no such host"):
        run_load_test("http://x", "m", SimpleNamespace(task="causal-lm"), users=1, seconds=1, max_tokens=1, prompts=tmp_path / "p", output=tmp_path / "o")
