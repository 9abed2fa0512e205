"""The faults that `make prove-eval` plants are judged by the gates that ship, which ask what should refuse each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.eval import gate_power, judged, regressions
from benchmarks.eval.judged import FAMILIES, Case, Judged, good_config, judge_kept
from benchmarks.eval.regressions import FAULTS, HARMLESS, SLICE_WORDS, WOMEN, table
from configs.loader import load
from configs.rules.gate import GateConfig
from configs.run.behaviour import Invariance
from configs.run.config import RunConfig

pytestmark = pytest.mark.unit
NO_RULE = {"served"}  # refused before any rule is asked


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(judged, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shipped_gate_has_a_rule_for_every_planted_fault(family: str) -> None:
    found = FAMILIES[family]
    shipped, config = load(Path(f"configs/finetune/{found.run}.yaml"), RunConfig), good_config(family)
    more = set(found.evaluate or {})
    assert config.evaluate.model_dump(exclude=more) == shipped.evaluate.model_dump(exclude=more)
    assert config.gate == (found.gate or shipped.gate) and Path(config.gate).parent == Path("configs/gates")
    kinds = {rule.rule for rule in load(Path(config.gate), GateConfig).rules} | NO_RULE
    faults = [case for case in FAULTS if case.family == family]
    assert faults and {kind for case in faults for kind in case.hoped} <= kinds


def test_there_are_as_many_as_are_promised_and_none_is_told_from_another() -> None:
    assert len(FAULTS) >= 31 and len(HARMLESS) >= 10
    assert sum(case.family == "forgetting" for case in FAULTS) >= 3
    every = [*FAULTS, *HARMLESS]
    assert len({case.run for case in every}) == len(every)
    assert all((case.change is None) != (case.answers is None) and case.hoped for case in FAULTS)


def test_the_shipped_config_asks_of_the_words_that_are_broken() -> None:
    evaluate = load(Path("configs/finetune/sentiment.yaml"), RunConfig).evaluate
    goods = next(one for one in evaluate.slice_definitions if one.name == "goods")
    assert goods.where and all(f"'{word}' in question" in goods.where for word in SLICE_WORDS)
    names = next(test for test in evaluate.behaviour if isinstance(test, Invariance))
    assert {*WOMEN} == {*names.words["female"]}


def test_a_killed_run_judges_no_case_twice_and_another_commit_judges_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    case, revision = Case("renamed", "calls", lambda folder, good: None), ["abc"]

    def judge(one: Case) -> Judged:
        asked.append(one.name)
        return Judged("fail", ["parity"], 2.0)

    monkeypatch.setattr(judged, "judge_case", judge)
    monkeypatch.setattr(judged, "head_revision", lambda: revision[0])
    assert judge_kept(case) == judge_kept(case) == Judged("fail", ["parity"], 2.0) and len(asked) == 1
    revision[0] = "def"
    assert judge_kept(case) == judge_kept(case) and len(asked) == 2
    revision[0] = "def-dirty"
    assert judge_kept(case) == judge_kept(case) and len(asked) == 4


def test_only_the_cases_that_were_named_are_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, ...]] = []
    monkeypatch.setattr(regressions, "train_good", lambda *words: trained.append(words))
    monkeypatch.setattr(regressions, "judge_kept", lambda case: Judged("fail", ["threshold"], 1.0))
    monkeypatch.setattr("sys.argv", ["regressions", "calls, in fences", "another seed"])
    regressions.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines == [
        "| calls | in fences | answers | fail | threshold |",
        "| sentiment | trained with another seed | bytes | fail | threshold |",
    ]
    assert trained == [("calls",), ("sentiment",), ("sentiment", "seed", "train.seed=18")]


def test_the_table_says_what_was_changed_and_each_rule_once() -> None:
    found = [(FAULTS[0], Judged("fail", ["slice_minimum", "parity", "slice_minimum"], 1.0))]
    assert table(found)[-1] == "| sentiment | label map swapped | bytes | fail | slice_minimum, parity |"


def test_the_very_same_answers_pass_every_shipped_rule_and_a_loss_of_twice_the_margin_does_not() -> None:
    found = list(gate_power.rules())
    assert {gate for gate, _, _ in found} == {"sentiment", "calls", "ner", "preferences"}
    for gate, n, rule in found:
        assert gate_power.passes(n, rule, 0.0, 0.0) == 1, f"{gate}: {rule.name} of {n} rows passes nothing"
        assert gate_power.passes(n, rule, 2 * rule.margin + 0.02, 2 * rule.margin) < 0.01
