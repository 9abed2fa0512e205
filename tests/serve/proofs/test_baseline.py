"""Blue's figures: measured when idle, kept for when it is not, and never those of another load, release or machine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.proofs.baseline
from configs.environment.config import DeployConfig
from configs.environment.load_test import LoadTest
from configs.errors import RefusedError
from infra.boot import ProcessId
from infra.haproxy.servers import Traffic
from infra.vllm.server import SlotProcess
from serve.proofs.baseline import Blue, keep_figures, kept_at, measure_baseline, needs_baseline, traffic_now
from serve.proofs.prove import prove
from tests.support.fake_openai import Fake, serving

REFERENCE = "zero@sha256:" + "9" * 64
IDLE, BUSY = [Traffic(0, 7, 0, 0, 0)], [Traffic(0, 7, 0, 0, 0), Traffic(3, 9, 0, 0, 0)]
LOAD = LoadTest(rate=2, seconds=3)


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(serve.proofs.baseline, "POLL_SECONDS", 0.01)
    (tmp_path / "golden.jsonl").write_text(json.dumps({"text": "a", "answer": "x", "probs": {"x": 1.0}}) + "\n")
    return tmp_path / "golden.jsonl"


def blue(looks: list[Traffic]) -> Blue:
    left = list(looks)
    manifest: Any = SimpleNamespace(reference=REFERENCE)
    return Blue("http://blue", manifest, lambda: left.pop(0) if len(left) > 1 else left[0])


def measure(
    prompts: Path, found: Blue | None, value: float = 1.0, load: LoadTest = LOAD
) -> tuple[dict[str, float], dict[str, Any], int]:
    """Figures, facts, and how often blue was loaded."""
    runs: list[str] = []

    def run(url: str, manifest: object, to: Path) -> dict[str, float]:
        runs.append(url)
        return {"latency_p50_ms": value}

    figures, facts = measure_baseline(found, load, prompts, prompts.parent, run)
    return figures, facts, len(runs)


@pytest.mark.unit
def test_without_blue_the_gate_knows_that_there_is_none(prompts: Path) -> None:
    assert measure(prompts, None) == ({"blue_absent": 1.0}, {"blue": "nothing else serves"}, 0)


@pytest.mark.unit
def test_idle_it_is_measured_anew_each_time_and_busy_the_kept_measure_is_taken(prompts: Path) -> None:
    assert measure(prompts, blue(IDLE), 1.0)[::2] == ({"blue_latency_p50_ms": 1.0}, 1)
    assert measure(prompts, blue(IDLE), 2.0)[::2] == ({"blue_latency_p50_ms": 2.0}, 1)
    figures, facts, runs = measure(prompts, blue(BUSY), 3.0)
    assert (
        (figures, runs) == ({"blue_latency_p50_ms": 2.0}, 0)
        and facts["blue_measured"].startswith("kept from 20")
        and "3 open" in facts["blue_traffic"]
    )


@pytest.mark.unit
def test_busy_without_a_kept_measure_it_is_measured_and_the_traffic_is_said_and_not_kept(prompts: Path) -> None:
    for _ in range(2):
        _, facts, runs = measure(prompts, blue(BUSY))
        assert runs == 1 and facts["blue_measured"] == "under traffic: 3 open, 200 requests a second"


@pytest.mark.unit
def test_what_green_showed_when_it_was_proven_is_its_measure_when_it_is_blue(prompts: Path) -> None:
    keep_figures(prompts.parent, REFERENCE, LOAD, prompts, {"latency_p50_ms": 5.0})
    assert measure(prompts, blue(BUSY))[::2] == ({"blue_latency_p50_ms": 5.0}, 0)
    prompts.write_text(json.dumps({"text": "a", "answer": "another release's", "probs": {"y": 1.0}}) + "\n")
    assert measure(prompts, blue(BUSY))[2] == 0, "the questions are the same"


@pytest.mark.unit
def test_another_load_release_machine_or_other_questions_are_another_measure(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prompts.parent)
    Path("t.jsonl").write_text("one")
    names = {
        kept_at(Path(), REFERENCE, LOAD, prompts),
        kept_at(Path(), "other", LOAD, prompts),
        kept_at(Path(), REFERENCE, LoadTest(rate=3), prompts),
    }
    names.add(kept_at(Path(), REFERENCE, LoadTest(trace="t.jsonl"), prompts))
    Path("t.jsonl").write_text("two")
    names.add(kept_at(Path(), REFERENCE, LoadTest(trace="t.jsonl"), prompts))
    prompts.write_text(json.dumps({"text": "b"}) + "\n")
    names.add(kept_at(Path(), REFERENCE, LOAD, prompts))
    prompts.write_text(json.dumps({"text": "b", "tools": [{}]}) + "\n")
    names.add(kept_at(Path(), REFERENCE, LOAD, prompts))
    monkeypatch.setattr(serve.proofs.baseline, "machine", lambda: ["another"])
    names.add(kept_at(Path(), REFERENCE, LOAD, prompts))
    assert len(names) == 8


@pytest.mark.unit
@pytest.mark.parametrize(
    ("looks", "busy"),
    [([(0, 5), (0, 5)], False), ([(0, 5), (0, 6)], True), ([(1, 5), (0, 5)], True), ([(0, 5), (1, 6)], True)],
)
def test_a_request_open_or_come_during_the_look_is_traffic(
    prompts: Path, looks: list[tuple[int, int]], busy: bool
) -> None:
    assert bool(traffic_now(blue([Traffic(open, total, 0, 0, 0) for open, total in looks]))) is busy


@pytest.mark.unit
@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("{rule: goodput, maximum_error_rate: 0}", False),
        ("{rule: latency, metric: latency_p50_ms, relative_to: blue, maximum_ratio: 2}", True),
        ("{rule: parity}", False),
    ],
)
def test_blue_is_measured_only_where_a_rule_compares(tmp_path: Path, rule: str, wanted: bool) -> None:
    (tmp_path / "gate.yaml").write_text(f"rules: [{rule}]")
    assert needs_baseline(tmp_path / "gate.yaml") is wanted


@pytest.mark.integration
def test_a_release_that_became_slow_is_stopped_by_the_real_load_and_the_real_gate(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are loaded by locust with the same plan; green's first token takes 3 s, blue's none."""
    from eval.gate import read_rules
    from eval.rules.decide import decide_load

    monkeypatch.chdir(prompts.parent)
    prompts.write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}) + "\n")
    Path("gate.yaml").write_text(
        "rules: [{rule: latency, metric: time_to_first_token_p50_ms, relative_to: blue, maximum_ratio: 2}]"
    )
    manifest: Any = SimpleNamespace(task="causal-lm", reference="green@sha256:" + "1" * 64)
    load = {"rate": 5, "seconds": 2, "max_tokens": 4}
    config = DeployConfig.model_validate(
        {"name": "x", "model": "m", "gate": "gate.yaml", "load_test": load, "state_dir": "state"}
    )
    rules = read_rules(Path("gate.yaml"))
    old: Any = SimpleNamespace(task="causal-lm", reference=REFERENCE)
    with serving(Fake()) as fast, serving(Fake(first_seconds=3.0)) as slow:
        process = SlotProcess(ProcessId(1, "", 0), slow.port, Path("state/green.log"))
        with pytest.raises(RefusedError, match=r"load gate fail: time_to_first_token_p50_ms <= 2 x blue"):
            prove(
                "load",
                process,
                prompts.parent,
                manifest,
                config,
                lambda reference, figures: decide_load(rules, reference, figures),
                Blue(fast.base_url, old, lambda: Traffic(0, 7, 0, 0, 0)),
            )
    assert len(fast.bodies) == len(slow.bodies) >= 3 and Path("state/loadtest/blue/report.html").exists()
    shapes = [sorted(body["messages"][0]["content"][7:] for _, body in fake.bodies) for fake in (fast, slow)]
    assert shapes[0] == shapes[1], "the same questions, but for the tag that keeps them out of the prefix cache"
