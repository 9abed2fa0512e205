"""Proofs: facts where the slot has shown it, else a refusal that says what was missing. The model's answers are
fake."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.load.run
import serve.proofs.baseline
import serve.proofs.prove
from configs.environment.config import DeployConfig
from configs.errors import ExternalError, RefusedError
from configs.verdict import RuleResult, Verdict
from infra.boot import ProcessId
from infra.haproxy.servers import Traffic
from infra.vllm.answer import Answer
from infra.vllm.parity import ParityResult
from infra.vllm.server import SlotProcess
from serve.proofs.baseline import Blue
from serve.proofs.prove import prove
from serve.record.environment import LoadGate

pytestmark = pytest.mark.unit
MANIFEST: Any = SimpleNamespace(reference="one@sha256:" + "0" * 64)
FIGURES = {"requests": 9.0, "error_rate": 0.0, "requests_per_second": 3.0}


def config_of(gate: str | None = "load.yaml") -> DeployConfig:
    load_test = {"users": 2, "seconds": 3, "max_tokens": 5}
    settings = {
        "name": "x",
        "model": "m",
        "gate": gate,
        "load_test": load_test,
        "start_timeout_seconds": 77,
        "state_dir": "state",
    }
    return DeployConfig.model_validate(settings)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlotProcess:
    monkeypatch.chdir(tmp_path)
    Path("load.yaml").write_text("rules: [{rule: goodput, maximum_error_rate: 0}]")
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps({"id": number}) + "\n" for number in range(6)))
    return SlotProcess(ProcessId(7, "", 0), 8101, tmp_path / "blue.log")


def show(
    proof: str,
    process: SlotProcess,
    config: DeployConfig | None = None,
    load_gate: LoadGate | None = None,
    blue: Blue | None = None,
) -> Any:
    return prove(proof, process, process.log.parent, MANIFEST, config or config_of(), load_gate, blue)


def answers(monkeypatch: pytest.MonkeyPatch, text: str = "", label: str | None = None) -> list[tuple[Any, ...]]:
    """Every golden prompt gets this one answer; what was asked, with the address and the longest answer."""
    asked: list[tuple[Any, ...]] = []

    async def ask(
        client: object, base_url: str, model: str, manifest: object, example: dict[str, Any], *, max_new_tokens: int
    ) -> Answer:
        asked.append((base_url, model, example["id"], max_new_tokens))
        return Answer(text, label, None, None, 0.1, 1)

    monkeypatch.setattr(serve.proofs.prove, "ask", ask)
    return asked


def test_health_is_waited_for_as_long_as_the_environment_says(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[object] = []
    monkeypatch.setattr(serve.proofs.prove, "wait_started", lambda *facts: waited.append(facts))
    assert show("healthy", process) == {} and waited == [(process, MANIFEST, 77, None)]


def test_where_it_says_nothing_its_last_start_has_a_say(process: SlotProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr(serve.proofs.prove, "wait_started", lambda *facts: waited.append(facts))
    config = config_of().model_copy(update={"start_timeout_seconds": None})
    prove("healthy", process, process.log.parent, MANIFEST, config, None, last_start=812.0)
    assert waited == [(process, MANIFEST, None, 812.0)]


def test_the_slot_is_warmed_by_golden_prompts_asked_at_the_slot_itself(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answers(monkeypatch)
    assert show("warm", process) == {"answers": 4}
    assert asked == [("http://127.0.0.1:8101", "m", number, 5) for number in range(4)]


@pytest.mark.parametrize(("text", "label", "shown"), [("x" * 500, None, "x" * 120), ("", "positive", "positive")])
def test_smoke_shows_a_real_answer_or_a_label(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch, text: str, label: str | None, shown: str
) -> None:
    asked = answers(monkeypatch, text, label)
    assert show("smoke", process) == {"answer": shown} and len(asked) == 1


def test_an_empty_answer_is_refused_although_the_server_is_healthy(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "")
    with pytest.raises(RefusedError, match=r"one@sha256:0+: a real request got an empty answer(.|\n)*blue\.log"):
        show("smoke", process)


def test_parity_gives_its_figures_when_it_holds_and_when_it_does_not(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ParityResult(1.0, 0.01, 8, True)
    monkeypatch.setattr(serve.proofs.prove, "check_parity", lambda base_url, model, release, manifest: found)
    assert show("parity", process) == {"agreement": 1.0, "difference": 0.01, "prompts": 8, "passed": True}
    found = ParityResult(0.625, float("inf"), 8, False)
    with pytest.raises(RefusedError, match="62% agree, difference inf"):
        show("parity", process)


def load_test(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """Base URL, release and facts of every load test that was run."""
    runs: list[tuple[str, str, dict[str, Any]]] = []

    def run_load_test(base_url: str, model: str, manifest: Any, **facts: Any) -> dict[str, float]:
        runs.append((base_url, manifest.reference, facts))
        return FIGURES

    monkeypatch.setattr(serve.load.run, "run_load_test", run_load_test)
    monkeypatch.setattr(serve.proofs.baseline, "POLL_SECONDS", 0.01)
    return runs


def test_the_load_gate_judges_the_figures_of_the_slot_itself(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, judged = load_test(monkeypatch), []

    def load_gate(reference: str, figures: dict[str, float]) -> Verdict:
        judged.append((reference, figures))
        return Verdict(release=reference, outcome="pass", results=[])

    facts = show("load", process, load_gate=load_gate, blue=blue_of(Traffic(0, 0, 0, 0, 0)))
    assert facts == {"verdict": "pass", **FIGURES, "report": "state/loadtest/8101/report.html"} and judged == [
        (MANIFEST.reference, FIGURES)
    ]
    ((base_url, _, asked),) = runs  # no rule compares, so blue is left alone
    assert base_url == "http://127.0.0.1:8101" and asked["api_key"] is None
    assert (asked["settings"].users, asked["settings"].seconds, asked["settings"].max_tokens) == (2, 3, 5)
    assert (asked["prompts"], asked["folder"]) == (process.log.parent / "golden.jsonl", Path("state/loadtest/8101"))


def blue_of(*traffic: Traffic) -> Blue:
    """The router's counts, look by look; the last one stays."""
    looks = list(traffic)
    manifest: Any = SimpleNamespace(reference="zero@sha256:" + "9" * 64)
    return Blue("http://blue", manifest, lambda: looks.pop(0) if len(looks) > 1 else looks[0])


def test_a_rule_relative_to_blue_is_judged_by_what_blue_showed_under_the_same_load(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real gate: green is as fast as blue here, which is not twice as fast."""
    from eval.gate import read_rules
    from eval.rules.decide import decide_load

    runs, blue = load_test(monkeypatch), blue_of(Traffic(0, 7, 0, 0, 0))

    def load_gate(reference: str, figures: dict[str, float]) -> Verdict:
        return decide_load(read_rules(Path("load.yaml")), reference, figures)

    rule = "rules: [{rule: goodput, metric: requests_per_second, relative_to: blue, minimum_ratio: %s}]"
    Path("load.yaml").write_text(rule % 1.0)
    facts = show("load", process, load_gate=load_gate, blue=blue)
    assert (
        facts["blue_requests_per_second"] == 3.0
        and facts["blue_measured"] == "idle"
        and facts["blue"].startswith("zero@")
    )
    Path("load.yaml").write_text(rule % 2.0)
    with pytest.raises(RefusedError, match="requests_per_second by blue's is 1"):
        show("load", process, load_gate=load_gate, blue=blue)
    (asked_first, _, facts_of_blue), (asked_then, _, facts_of_green) = runs[:2]
    assert (asked_first, asked_then) == ("http://blue", "http://127.0.0.1:8101")
    assert {name: facts_of_blue[name] for name in ("settings", "prompts")} == {
        name: facts_of_green[name] for name in ("settings", "prompts")
    }


def test_a_first_release_has_no_blue_to_be_compared_with(process: SlotProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.gate import read_rules
    from eval.rules.decide import decide_load

    load_test(monkeypatch)
    Path("load.yaml").write_text("rules: [{rule: goodput, relative_to: blue, minimum_ratio: 1, maximum_error_rate: 0}]")
    rules = read_rules(Path("load.yaml"))
    facts = show("load", process, load_gate=lambda reference, figures: decide_load(rules, reference, figures))
    assert facts["verdict"] == "pass" and facts["blue"] == "nothing else serves"


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_a_load_gate_that_does_not_pass_refuses_and_names_only_the_rules_that_did_not(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    load_test(monkeypatch)
    results = [
        RuleResult(rule="error_rate", outcome="pass", sentence="0 is fine"),
        RuleResult(rule="latency_p95_ms", outcome=outcome, sentence="not measured"),
    ]
    with pytest.raises(RefusedError, match=f"load gate {outcome}: latency_p95_ms: not measured\n") as refusal:
        show(
            "load",
            process,
            load_gate=lambda reference, figures: Verdict(release=reference, outcome=outcome, results=results),
        )
    assert "error_rate" not in str(refusal.value) and refusal.value.hint == "tunegate loadtest x"


def test_a_gate_of_no_load_rules_is_inconclusive_and_refused(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_test(monkeypatch)
    with pytest.raises(RefusedError, match="inconclusive: the gate has no load rules"):
        show(
            "load",
            process,
            load_gate=lambda reference, figures: Verdict(release=reference, outcome="inconclusive", results=[]),
        )


def test_without_a_gate_nothing_is_loaded_and_the_record_says_so(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = load_test(monkeypatch)
    assert "no gate" in show("load", process, config_of(gate=None))["skipped"] and runs == []


@pytest.mark.parametrize("proof", ["warm", "smoke"])
def test_a_server_that_does_not_answer_is_no_proof(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    async def ask(*facts: object, **more: object) -> Answer:
        raise ExternalError("HTTP 500")

    monkeypatch.setattr(serve.proofs.prove, "ask", ask)
    with pytest.raises(ExternalError, match="HTTP 500"):
        show(proof, process)


def test_the_applications_own_requests_are_part_of_the_smoke_proof(
    process: SlotProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "fine")
    asked: list[tuple[object, ...]] = []

    def run_smoke(*facts: object) -> dict[str, float]:
        asked.append(facts)
        return {"smoke_requests": 2}

    monkeypatch.setattr(serve.proofs.prove, "run_smoke", run_smoke)
    config = config_of().model_copy(update={"smoke": "smoke.yaml"})
    assert show("smoke", process, config) == {"answer": "fine", "smoke_requests": 2} and asked == [
        (Path("smoke.yaml"), "http://127.0.0.1:8101", "m")
    ]
