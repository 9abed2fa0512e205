"""Any two releases beside each other, found by whatever they are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from configs.errors import InputError
from configs.rules.paired import NonInferiorRule
from eval.compare import compare_releases, find
from eval.rules.evidence import Evidence, read_measured
from eval.rules.paired import decide_comparison

pytestmark = pytest.mark.unit
ONE, OTHER = "one@sha256:" + "1" * 64, "two@sha256:" + "2" * 64
WriteMeasured = Callable[..., Path]


def outcomes(right: int, n: int = 100) -> dict[str, float]:
    return {f"row-{number}": float(number < right) for number in range(n)}


@pytest.fixture
def evaluated(checkout: Path, write_measured: WriteMeasured) -> WriteMeasured:
    write_measured(checkout / "build/one/eval", ONE, outcomes(90))
    write_measured(checkout / "releases/two@222222222222/eval", OTHER, outcomes(80))
    return write_measured


def test_the_difference_is_the_first_minus_the_second_on_the_same_rows(evaluated: WriteMeasured) -> None:
    told: list[str] = []
    found = compare_releases("build/one", "two", 0.95, None, told.append)
    (row,) = found["metrics"]
    assert (found["release"], found["reference"], found["sliced_metric"]) == (ONE, OTHER, "accuracy") and told == [
        "compare accuracy"
    ]
    assert row["difference"] == pytest.approx(0.1) and row["low"] > 0 and row["p_value"] == pytest.approx(2 * 0.5**10)
    assert (row["minimum_detectable_effect"] or 0) > 0 and json.dumps(found)
    back = compare_releases("two", "one", 0.95, None, told.append)["metrics"][0]
    assert (back["low"], back["high"]) == pytest.approx((-row["high"], -row["low"]))
    assert (row["shown"], back["shown"], found["slices"], found["slice_confidence"]) == ("better", "worse", [], None)


def test_it_says_of_a_metric_what_a_rule_of_the_gate_says(evaluated: WriteMeasured) -> None:
    (row,) = compare_releases("one", "two", 0.95, None, lambda _: None)["metrics"]
    mine, theirs = (read_measured(Path(name)) for name in ("build/one/eval", "releases/two@222222222222/eval"))
    assert mine and theirs
    rule = NonInferiorRule(rule="non_inferior_to", metric="accuracy", reference=OTHER, margin=0.05)
    judged = decide_comparison(rule, mine, Evidence(ONE, mine, references={OTHER: theirs})).evidence
    for name in ("value", "reference_value", "difference", "low", "high", "p_value", "n", "method"):
        assert row[name] == judged[name]  # type: ignore[literal-required]


def test_of_many_slices_each_is_held_to_what_all_together_need(evaluated: WriteMeasured, checkout: Path) -> None:
    """Two slices of 50 and one too small; the one that lost is named first, by an interval that is wider than one
    alone would have."""
    names = [["half=first"]] * 50 + [["half=second"]] * 45 + [["half=second", "few"]] * 5
    for folder in ("build/one/eval", "releases/two@222222222222/eval"):
        path = checkout / folder / "predictions.parquet"
        pandas.read_parquet(path).assign(slices=pandas.Series(names)).to_parquet(path)
    found = compare_releases("two", "one", 0.95, None, lambda _: None)
    assert [row["name"] for row in found["slices"]] == ["half=second", "half=first"]
    assert found["slice_confidence"] == pytest.approx(0.975)
    lost, alike = found["slices"]
    assert (lost["difference"], lost["shown"], alike["shown"]) == (pytest.approx(-0.2), "worse", "unclear")
    assert lost["low"] < found["metrics"][0]["low"] < lost["high"] < 0


def test_what_was_measured_otherwise_is_refused(evaluated: WriteMeasured, checkout: Path) -> None:
    conditions = {"versions": {"vllm": "0.1"}}
    evaluated(checkout / "build/one/eval", ONE, outcomes(90), conditions=conditions)
    with pytest.raises(InputError, match="by another version of tunegate"):
        compare_releases("one", "two", 0.95, None, print)
    evaluated(
        checkout / "releases/two@222222222222/eval", OTHER, outcomes(80), conditions={"versions": {"vllm": "0.2"}}
    )
    with pytest.raises(InputError, match=r"with vllm 0\.2, the release with 0\.1"):
        compare_releases("one", "two", 0.95, None, print)


@pytest.mark.parametrize("text", ["one", "build/one", ONE, "one@sha256:111", "one@1111", "111111", "sha256:111111"])
def test_a_release_is_found_by_any_of_its_names(evaluated: WriteMeasured, text: str) -> None:
    assert find(text) == [Path("build/one/eval")]


@pytest.mark.parametrize("text", ["three", "111", "one@3", "build/three", ""])
def test_what_fits_none_is_refused_with_what_there_is(evaluated: WriteMeasured, text: str) -> None:
    with pytest.raises(InputError, match=ONE):
        find(text)


def test_a_name_that_fits_two_is_refused(evaluated: WriteMeasured, checkout: Path) -> None:
    evaluated(checkout / "build/again/eval", "one@sha256:" + "3" * 64, outcomes(70))
    with pytest.raises(InputError, match="2 evaluated releases fit"):
        find("one")


def test_other_rows_are_never_compared_and_the_same_are_looked_for_everywhere(
    evaluated: WriteMeasured, checkout: Path
) -> None:
    evaluated(checkout / "releases/two@222222222222/eval", OTHER, outcomes(80), dataset="rows-2")
    with pytest.raises(InputError, match="one beside two: the latter was measured on other test rows") as caught:
        compare_releases("one", "two", 0.95, None, print)
    assert "tunegate evaluate CONFIG" in str(caught.value)
    evaluated(checkout / "build/one/eval/two@222222222222", OTHER, outcomes(80))
    assert compare_releases("one", "two", 0.95, None, lambda _: None)["dataset"] == "rows-1"


def test_a_metric_that_only_one_has_cannot_be_sliced(evaluated: WriteMeasured) -> None:
    with pytest.raises(InputError, match="expected one of accuracy"):
        compare_releases("one", "two", 0.95, "token_f1", lambda _: None)
