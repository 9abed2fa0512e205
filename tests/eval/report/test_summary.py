"""What the pages tell, told from values."""

from __future__ import annotations

import json
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

    evidence = Evidence("r", record(0.6, 0.7, 0.5), "c", {"champion": record(0.5, 0.9, 0.5)})
    found = summary.slices(verdict_of(), evidence, metric)
    assert [row.name for row in found] == order
    assert summary.slices(verdict_of(), Evidence("r", record(0.6, 0.7, 0.5)), "never_measured") == []


def test_a_slice_has_the_interval_of_the_rule_that_compared_it() -> None:
    found = {row.name: (row.low, row.high) for row in summary.slices(judged.verdict(), judged.evidence(), "accuracy")}
    assert found["topic=travel"] == (-0.56, -0.3) and found["topic=work"] == (None, None)


def test_what_could_not_be_judged_is_named() -> None:
    mine = judged.measured(judged.RELEASE, judged.predictions(1, 0.9, n=60))
    mine.record["slices"] = {name: one for name, one in mine.record["slices"].items() if name.startswith("label")}
    found = summary.not_judged(judged.verdict(), Evidence(judged.RELEASE, mine))
    assert found[0] == "expected_calibration_error <= 0.1: expected_calibration_error is missing."
    small = summary.small_slices(Evidence(judged.RELEASE, mine))
    assert {name for name, _ in small} == {"topic=food", "topic=travel", "topic=work"}
    assert [n for _, n in small] == sorted((n for _, n in small), reverse=True) and sum(n for _, n in small) == 60
    assert found[1].startswith(f"3 slices are too small, with the rows of each: {small[0][0]} ({small[0][1]}), ")
    assert summary.not_judged(judged.verdict(), judged.evidence()) == found[:1]


def test_a_rule_that_had_nobody_to_compare_with_is_not_judged() -> None:
    alone = verdict_of("pass", kind="non_inferior_to", reference="champion")
    assert summary.not_judged(alone, Evidence("r", None)) == [
        "There was no champion to compare with, so these rules hold: rule 1."
    ]
    opposed = alone.model_copy(update={"champion": judged.CHAMPION})
    assert summary.not_judged(opposed, Evidence("r", None)) == []


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
    assert summary.read_provenance(paths, None) == {}
    manifest = write_release(
        paths.release,
        git_revision="abc123",
        base={"package": "tiny", "digest": "sha256:1"},
        versions={"torch": "2.13", "peft": "0.21"},
    )
    assert summary.read_provenance(paths, manifest) == {
        "Base": "package tiny, digest sha256:1",
        "Git revision": "abc123",
        "Made": "2026-11-24",
        "Versions": "peft 0.21, torch 2.13",
    }


def test_the_champion_and_the_releases_before_it_are_read_from_the_store(
    checkout: Path, write_release: Callable[..., Manifest]
) -> None:
    paths, mine = RunPaths.of("run"), judged.measured("", judged.predictions(1, 0.9))
    write_release(paths.release, config={"gate": "configs/gates/run.yaml", "train": {"epochs": 3}})
    champion = publish(write_release, b"before", {"gate": "configs/gates/run.yaml", "train": {"epochs": 2}}, 0.8)
    now = verdict_of("pass", metric="accuracy").model_copy(
        update={"champion": champion, "release": f"run@sha256:{'9' * 64}", "dataset": "sha256:rows"}
    )
    found = summary.read_background(now, Evidence(now.release, mine, champion), paths)
    assert [(one.part, one.what, one.before, one.now) for one in found.differences] == [
        ("config", "train.epochs", "2", "3")
    ]
    assert found.gate == "configs/gates/run.yaml (the rules that the champion was judged by)" and found.champion_here
    assert [(one.reference, one.value, one.same_rows) for one in found.releases] == [
        (champion, 0.8, False),
        (now.release, mine.record["metrics"]["accuracy"], True),
    ]
    fetched = Path("releases") / f"run@{champion[-64:][:12]}"
    (fetched / "gate" / "verdict.json").write_text("{")
    assert "not here" in summary.read_background(now, Evidence(now.release, mine, champion), paths).gate
    (fetched / "release" / "manifest.json").unlink()
    alone = summary.read_background(now, Evidence(now.release, mine, champion), paths)
    assert alone.differences == [] and not alone.champion_here and len(alone.releases) == 1


def publish(write_release: Callable[..., Manifest], weights: bytes, config: dict[str, Any], accuracy: float) -> str:
    """As infra/dvc/releases.py lays it out, without its pointer."""
    manifest = write_release(Path("made"), weights=weights, config=config)
    folder = Path("releases") / f"run@{manifest.digest[7:19]}"
    write_release(folder / "release", weights=weights, config=config)
    verdict_of("pass", metric="accuracy").model_copy(update={"release": manifest.reference}).write(
        folder / "gate" / "verdict.json"
    )
    (folder / "eval").mkdir()
    (folder / "eval" / "metrics.json").write_text(json.dumps({"metrics": {"accuracy": accuracy}}))
    return manifest.reference
