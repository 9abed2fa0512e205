"""A load test by the real locust against a small server: every request of the plan is sent at its time, and what it
waited for is in its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.environment.load_test import LoadTest
from configs.errors import ExternalError
from serve.load.figures import Sample
from serve.load.run import locust_command, measuring, read_samples, run_load_test
from tests.support.fake_openai import Fake, serving

MANIFEST: Any = SimpleNamespace(task="causal-lm", reference="one@sha256:" + "0" * 64)
CLASSIFIER: Any = SimpleNamespace(task="sequence-classification", reference="two@sha256:" + "0" * 64)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    lines = [
        {"messages": [{"role": "user", "content": f"question {number}"}], "text": f"text {number}"}
        for number in range(3)
    ]
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "golden.jsonl"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake(gap_seconds=0.02)) as found:
        yield found


def run(fake: Fake, prompts: Path, manifest: Any = MANIFEST, **settings: Any) -> tuple[dict[str, float], list[Sample]]:
    folder = prompts.parent / "out"
    figures = measuring("assistant", LoadTest.model_validate(settings), prompts, "secret")(
        fake.base_url, manifest, folder
    )
    return figures, read_samples(folder / "samples.jsonl")


@pytest.mark.integration
def test_a_closed_loop_asks_again_when_it_has_read_the_whole_answer(fake: Fake, prompts: Path) -> None:
    figures, samples = run(fake, prompts, users=2, seconds=2, max_tokens=7)
    assert figures["failures"] == 0 and figures["requests"] == len(samples) == len(fake.bodies) >= 2
    assert (
        all(len(sample["gaps"]) == 2 and sample["tokens"] == 3 for sample in samples)
        and figures["inter_token_p50_ms"] > 0
    )
    path, body = fake.bodies[0]
    assert (path, body["model"], body["max_tokens"], body["stream"]) == ("/v1/chat/completions", "assistant", 7, True)
    asked = sorted(body["messages"][0]["content"] for _, body in fake.bodies)
    assert len(set(asked)) == len(asked) and asked[0].endswith(") question 0") and len({len(one) for one in asked}) == 1
    record = json.loads((prompts.parent / "out" / "figures.json").read_text())
    assert record["figures"] == figures and record["release"] == MANIFEST.reference
    assert "Closed loop: 2 users" in (prompts.parent / "out" / "report.html").read_text()


@pytest.mark.integration
def test_an_open_loop_sends_the_same_requests_at_the_same_times_whatever_the_server_does(prompts: Path) -> None:
    """The server stalls for as long as the whole run: users who wait would have sent one request each."""
    counts = []
    for stall in (0.0, 3.0):
        with serving(Fake(first_seconds=stall)) as fake:
            figures, samples = run(fake, prompts, rate=12, seconds=2, slo={"latency_ms": 2500})
        counts.append(len(samples))
        assert figures["goodput_share"] == (0.0 if stall else 1.0) and figures["latency_p50_ms"] >= 1000 * stall
    assert counts[0] == counts[1] > 12


@pytest.mark.integration
def test_a_classifier_is_asked_for_labels_and_failures_are_counted_not_timed(prompts: Path) -> None:
    with serving(Fake(fails=lambda number: number % 2 == 0)) as fake:
        figures, _ = run(fake, prompts, CLASSIFIER, rate=20, seconds=1)
    assert ("/classify", {"model": "assistant", "input": ["text 0"]}) in fake.bodies and 0.4 <= figures[
        "error_rate"
    ] <= 0.6
    assert "time_to_first_token_p50_ms" not in figures and figures["latency_p50_ms"] > 0


TOOLS = [{"type": "function", "function": {"name": "weather"}}]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("manifest", "path", "asked"),
    [
        (MANIFEST, "/v1/chat/completions", {"tools": TOOLS, "tool_choice": "none"}),
        (CLASSIFIER, "/classify", {"chat_template_kwargs": {"tools": TOOLS}}),
    ],
)
def test_a_golden_conversation_is_asked_with_its_tools_whoever_begins(
    fake: Fake, tmp_path: Path, manifest: Any, path: str, asked: dict[str, Any]
) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": "{}"}}]}
    (tmp_path / "golden.jsonl").write_text(json.dumps({"messages": [call], "tools": TOOLS}) + "\n")
    figures, _ = run(fake, tmp_path / "golden.jsonl", manifest, rate=10, seconds=1)
    (found, body), *_ = fake.bodies
    assert figures["failures"] == 0 and found == path and {name: body[name] for name in asked} == asked
    assert body["messages"][0]["tool_calls"] == call["tool_calls"] and body["messages"][0]["content"].endswith(") ")


@pytest.mark.integration
def test_a_stream_that_ends_in_its_middle_is_a_failure(prompts: Path) -> None:
    with serving(Fake(cut=True)) as fake:
        figures, samples = run(fake, prompts, rate=5, seconds=1)
    assert figures["error_rate"] == 1 and all(sample["status"] == 200 and not sample["ok"] for sample in samples)


@pytest.mark.integration
def test_two_workers_share_one_plan(fake: Fake, prompts: Path) -> None:
    figures, samples = run(fake, prompts, ramp=[10, 30], seconds=2, processes=2)
    planned = (prompts.parent / "out" / "plan.jsonl").read_text().splitlines()
    assert len(samples) == len(planned) == figures["requests"] and {sample["step"] for sample in samples} == {0, 1}
    assert len({body["messages"][0]["content"] for _, body in fake.bodies}) == len(planned) and figures[
        "knee_requests_per_second"
    ] in (10, 30)


@pytest.mark.integration
def test_a_trace_is_replayed_as_it_was_asked_under_the_model_that_is_tested(
    fake: Fake, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "at": 100 + number,
            "path": "/v1/completions",
            "body": {"model": "old", "prompt": f"p{number}", "stream": number == 1},
        }
        for number in range(3)
    ]
    trace = prompts.parent / "trace.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(prompts.parent)
    figures, samples = run(fake, prompts, trace="trace.jsonl", trace_speed=4)
    assert figures["requests"] == 3 and sorted(body["prompt"] for _, body in fake.bodies) == ["p0", "p1", "p2"]
    assert all(
        (path, body["model"], body["stream"]) == ("/v1/completions", "assistant", body["prompt"] == "p1")
        for path, body in fake.bodies
    )
    times = sorted(sample["at"] for sample in samples)
    assert times[-1] - times[0] >= 0.3 and sum(sample["first"] is not None for sample in samples) == 1


@pytest.mark.unit
def test_samples_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "load.jsonl"
    assert read_samples(path) == []
    path.write_text('{"ok": true}\n{"ok": false}\n')
    assert [one["ok"] for one in read_samples(path)] == [True, False]


@pytest.mark.unit
def test_a_locust_that_fails_is_an_outside_error(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *a, **k: SimpleNamespace(returncode=2, stderr="no such host"))
    with pytest.raises(ExternalError, match="no such host"):
        run_load_test(
            "http://x",
            "m",
            MANIFEST,
            settings=LoadTest(users=1, seconds=1),
            prompts=prompts,
            folder=prompts.parent / "o",
        )


@pytest.mark.unit
def test_one_sender_a_process_sends_a_plan_and_never_fewer_users_than_processes_close_a_loop() -> None:
    def users(**settings: Any) -> tuple[str, bool]:
        command = locust_command("http://x", LoadTest.model_validate(settings), 9)
        return command[command.index("--users") + 1], "--processes" in command

    assert users(users=7) == ("7", False) and users(users=7, rate=3) == ("1", False)
    assert users(users=1, processes=3) == users(rate=2, processes=3) == ("3", True)
