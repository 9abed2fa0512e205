"""What the pages tell, told from values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.paths import RunPaths
from configs.release import Manifest
from configs.verdict import Outcome, RuleResult, Verdict, conjunction
from eval.report import summary
from eval.rules.evidence import Evidence, Measured
from tests.support import judged

pytestmark = pytest.mark.unit


def verdict_of(*outcomes: Outcome, **evidence: Any) -> Verdict:
    results = [
        RuleResult(rule=f"rule {number}", outcome=outcome, sentence="why", evidence=evidence)
        for number, outcome in enumerate(outcomes, 1)
    ]
    return Verdict(release=judged.RELEASE, outcome=conjunction(results), results=results)


@pytest.mark.parametrize(
    ("outcomes", "more", "sentence"),
    [
        (["pass", "pass"], {}, "Pass: all of 2 rules hold."),
        (["pass", "inconclusive", "fail"], {}, "Fail: 1 of 3 rules broken, first: rule 3."),
        (["inconclusive"], {}, "Inconclusive: nothing failed, but 1 of 1 rule not shown, first: rule 1."),
        (["pass", "inconclusive"], {"more_examples": 1410},
         "Inconclusive: nothing failed, but 1 of 2 rules not shown, first: rule 2. "
         "About 1,410 more examples would decide."),
        ([], {}, "Inconclusive: there was no rule to judge by."),
    ],
)  # fmt: skip
def test_the_headline_is_one_sentence(outcomes: list[Outcome], more: dict[str, Any], sentence: str) -> None:
    assert summary.headline(verdict_of(*outcomes, **more)) == sentence


def test_what_failed_comes_first_and_the_files_order_within() -> None:
    found = summary.by_severity(verdict_of("pass", "inconclusive", "fail", "pass", "fail").results)
    assert [one.rule for one in found] == ["rule 3", "rule 5", "rule 2", "rule 1", "rule 4"]


def test_a_change_has_the_interval_of_the_rule_that_compared_the_same_two() -> None:
    found = summary.changes(judged.verdict())
    assert [(one.metric, one.reference) for one in found] == [
        ("accuracy", "champion"),
        ("accuracy", "base"),
        ("log_loss", "champion"),
    ]
    assert [(one.low, one.high) for one in found] == [(-0.2, -0.08), (-0.04, 0.08), (None, None)]
    assert [one.better for one in found] == [False, True, False]


@pytest.mark.parametrize(
    ("metric", "release", "before", "arrow", "better"),
    [
        ("accuracy", 0.5, 0.4, "▲", True),
        ("log_loss", 0.5, 0.4, "▲", False),
        ("f1:good", 0.3, 0.4, "▼", False),
        ("x", 1, 0, "▲", None),
        ("accuracy", 1, 1, "=", None),
    ],
)
def test_up_is_not_always_better(metric: str, release: float, before: float, arrow: str, better: bool | None) -> None:
    change = summary.Change(metric, "base", release, before, None, None)
    assert (change.arrow, change.better) == (arrow, better)


def test_a_side_without_a_figure_is_no_change() -> None:
    verdict = verdict_of("pass").model_copy(
        update={"changes": {"a": {"release": None, "champion": 1.0}, "b": {"release": float("nan"), "base": 1.0}}}
    )
    assert summary.changes(verdict) == []


def frame(**columns: Any) -> Measured:
    return Measured(
        {}, frame=pandas.DataFrame({"id": ["a", "b", "c"], "gold": "x", "answer": ["x", "y", "x"]} | columns)
    )


def test_flips_are_paired_by_id_in_whatever_order_the_lost_first() -> None:
    mine, theirs = frame(correct=[1.0, 0.0, 1.0], slices=[["s"], ["t"], []]), frame(correct=[1.0, 1.0, 0.0])
    shuffled = replace(theirs, frame=theirs.frame.iloc[[2, 0, 1]])  # type: ignore[union-attr]
    found = summary.flips(Evidence("r", mine, "c", {"champion": shuffled}), {"b": "asked"})
    assert [(flip.id, flip.kind, flip.slices, flip.question) for flip in found] == [
        ("b", "lost", ["t"], "asked"),
        ("c", "gained", [], ""),
    ]


def test_rows_that_only_one_side_has_or_that_nobody_could_judge_do_not_flip() -> None:
    mine, theirs = frame(correct=[1.0, None, 1.0]), frame(correct=[1.0, 1.0, 0.0], id=["a", "b", "z"])
    assert summary.flips(Evidence("r", mine, "c", {"champion": theirs})) == []


def test_numbers_and_releases_with_nothing_to_compare_do_not_flip() -> None:
    assert summary.flips(Evidence("r", frame(absolute_error=0.1), None, {"base": frame(absolute_error=0.2)})) == []
    assert (
        summary.flips(Evidence("r", frame(correct=1.0)))
        == summary.flips(Evidence("r", None, None, {"base": frame(correct=1.0)}))
        == []
    )


def test_the_champion_is_what_a_release_is_held_against_else_the_base() -> None:
    one = frame()
    assert summary.reference_of(Evidence("r", one, references={"base": one, "champion": one})) == "champion"
    assert summary.reference_of(Evidence("r", one, references={"parent": one, "base": one})) == "base"
    assert summary.reference_of(Evidence("r", one)) is None


def test_what_was_measured_on_other_rows_is_not_held_against() -> None:
    other = replace(frame(correct=0.0), record={"dataset": "other"})
    evidence = Evidence("r", replace(frame(correct=1.0), record={"dataset": "rows"}), "c", {"champion": other})
    assert summary.reference_of(evidence) is None and summary.flips(evidence) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), unique_by=lambda row: row[0], min_size=1))
def test_every_discordant_pair_flips_once(pairs: list[tuple[int, bool, bool]]) -> None:
    ids, mine, theirs = ([*column] for column in zip(*pairs, strict=True))

    def side(correct: list[bool]) -> Measured:
        return Measured(
            {},
            frame=pandas.DataFrame(
                {
                    "id": [str(one) for one in ids],
                    "gold": "x",
                    "answer": "y",
                    "correct": [float(one) for one in correct],
                }
            ),
        )

    found = summary.flips(Evidence("r", side(mine), "c", {"champion": side(theirs)}))
    assert {(flip.id, flip.kind) for flip in found} == {
        (str(one), "gained" if ours else "lost") for one, ours, other in pairs if ours != other
    }
    assert [flip.kind for flip in found] == sorted((flip.kind for flip in found), reverse=True)


def test_the_pages_metric_is_what_the_gate_compares() -> None:
    assert summary.main_metric(judged.verdict(), judged.evidence()) == "accuracy"
    measured = Measured({"metrics": {"exact_match": 1.0, "valid_json": 1.0}})
    assert summary.main_metric(verdict_of("pass", metric="valid_json"), Evidence("r", measured)) == "valid_json"
    assert summary.main_metric(verdict_of("pass", metric="never_measured"), Evidence("r", measured)) == "exact_match"
    assert summary.main_metric(verdict_of("pass"), Evidence("r", None)) is None


@pytest.mark.parametrize(("metric", "order"), [("accuracy", ["b", "c", "a"]), ("log_loss", ["a", "c", "b"])])
def test_the_worst_slice_is_the_one_that_lost_most(metric: str, order: list[str]) -> None:
    def record(*values: float) -> Measured:
        return Measured({"slices": {name: {"n": 20, metric: value} for name, value in zip("abc", values, strict=True)}})

    found = summary.slices(Evidence("r", record(0.6, 0.7, 0.5), "c", {"champion": record(0.5, 0.9, 0.5)}), metric)
    assert [row.name for row in found] == order
    assert summary.slices(Evidence("r", record(0.6, 0.7, 0.5)), "never_measured") == []


def test_only_the_questions_wanted_are_read(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert summary.read_questions(paths, {"b"}) == {}
    paths.data.mkdir()
    chat = [
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": f"ask {name}"},
            {"role": "assistant", "content": "x"},
        ]
        for name in "abc"
    ]
    pandas.DataFrame({"id": [*"abc"], "messages": chat}).to_parquet(paths.data / "test.parquet")
    assert summary.read_questions(paths, {"b", "z"}) == {"b": "ask b"}


def test_the_release_says_where_it_comes_from(checkout: Path, write_release: Callable[..., Manifest]) -> None:
    paths = RunPaths(checkout)
    assert summary.read_provenance(paths) == {}
    write_release(
        paths.release,
        git_revision="abc123",
        base={"package": "tiny", "digest": "sha256:1"},
        versions={"torch": "2.13", "peft": "0.21"},
    )
    facts = summary.read_provenance(paths)
    assert facts == {
        "Base": "package tiny, digest sha256:1",
        "Git revision": "abc123",
        "Made": "2026-11-24",
        "Versions": "peft 0.21, torch 2.13",
    }
