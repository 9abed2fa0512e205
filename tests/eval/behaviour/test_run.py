"""What behaviour tests find: planted weaknesses of a fake model show in their figures, sound behaviour shows as
zero."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.errors import InputError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.behaviour.figures import samples_of_outcomes
from eval.behaviour.perturb import last_question
from eval.behaviour.run import run_behaviour_tests
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
Row = dict[str, Any]
Model = Callable[[str], float]
GOOD = [{"id": f"row-{number}", "text": f"A good film, number {number}", "label": "good"} for number in range(20)]
PEOPLE = {
    "test": "invariance",
    "templates": ["{who} went out.", "I know {who}."],
    "groups": {"a": ["Ann", "Eve"], "b": ["Bob", "Tom"], "c": ["Cem", "Ian"]},
}


def classify(probability: float) -> Answer:
    label = "good" if probability >= 0.5 else "bad"
    return Answer(label, label, {"bad": 1 - probability, "good": probability}, None, 0.1, 0)


def say(text: str) -> Answer:
    return Answer(text, None, None, None, 0.1, 3)


def number(value: float) -> Answer:
    return Answer(f"{value:.6g}", None, None, None, 0.1, 0, value=value)


@pytest.fixture
def measured(tmp_path: Path, write_release: Callable[..., Manifest]) -> Callable[..., dict[str, Any]]:
    """One test's figures over `rows`, answered by `model`: question to Answer. `asked` holds every question that was
    put to it."""

    def measure(
        model: Callable[[str], Answer],
        test: Row,
        rows: list[Row] = GOOD,
        *,
        asked: list[str] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        manifest, settings = (
            write_release(tmp_path / "release", **fields),
            Evaluate.model_validate({"behaviour": [test]}),
        )

        def ask(questions: list[Row]) -> list[Answer]:
            texts = [last_question(row) for row in questions]
            (asked if asked is not None else []).extend(texts)
            return [model(text) for text in texts]

        found = run_behaviour_tests(
            settings, manifest, lambda: iter(rows), lambda place: model(last_question(rows[place])), ask, tmp_path
        )
        json.dumps(found, allow_nan=False)
        return dict(found[str(test.get("name", test["test"]))])

    return measure


def frame(tmp_path: Path) -> pandas.DataFrame:
    return pandas.read_parquet(tmp_path / "behaviour.parquet")


def test_a_model_that_reads_case_falls_under_case_and_not_under_typos_at_the_end(
    measured: Callable[..., Row], tmp_path: Path
) -> None:
    found = measured(
        lambda text: classify(0.9 if "good" in text else 0.1),
        {"test": "robustness", "perturb": ["case", "truncation"], "rate": 1.0, "rows": 10},
    )
    assert found["kind"] == "robustness" and (found["metric"], found["n"], found["original"]) == ("accuracy", 20, 1.0)
    assert found["groups"]["case"] | {"metric": "accuracy"} == found["groups"]["case"]
    for name, part in frame(tmp_path).groupby("variant"):
        lost = part["changed_text"].map(lambda text: "good" not in text).mean()
        assert found["groups"][name]["flip_rate"] == found["groups"][name]["drop"] == pytest.approx(lost) and lost > 0.3
    assert found["drop"] == pytest.approx((found["groups"]["case"]["drop"] + found["groups"]["truncation"]["drop"]) / 2)


def test_a_steady_model_loses_nothing(measured: Callable[..., Row]) -> None:
    found = measured(
        lambda text: classify(0.9),
        {"test": "robustness", "perturb": ["typos", "case", "whitespace", "punctuation", "truncation"]},
    )
    assert (found["drop"], found["flip_rate"], found["n"]) == (0, 0, 100)


def test_a_wrong_answer_that_becomes_right_is_a_flip_and_no_drop(measured: Callable[..., Row]) -> None:
    found = measured(
        lambda text: classify(0.1 if "good" in text else 0.9),
        {"test": "robustness", "perturb": ["truncation"], "rate": 1.0},
    )
    assert (found["original"], found["changed"], found["drop"], found["flip_rate"]) == (0.0, 1.0, -1.0, 1.0)


def test_a_number_flips_past_the_tolerance_and_a_larger_error_is_a_drop(measured: Callable[..., Row]) -> None:
    rows = [{"id": str(place), "text": "one two three four", "value": 4.0} for place in range(6)]
    test = {"test": "robustness", "perturb": ["truncation"], "rate": 0.25, "tolerance": 1.0}
    found = measured(lambda text: number(len(text.split())), test, rows, problem="regression")
    assert (found["metric"], found["original"], found["changed"], found["drop"], found["flip_rate"]) == (
        "mean_absolute_error",
        0,
        1,
        1,
        0,
    )
    assert (
        measured(lambda text: number(len(text.split())), test | {"tolerance": 0.5}, rows, problem="regression")[
            "flip_rate"
        ]
        == 1
    )


def test_a_gap_between_groups_is_found_with_each_word_counted_once(
    measured: Callable[..., Row], tmp_path: Path
) -> None:
    def model(text: str) -> Answer:
        return classify(0.8 if "Ann" in text or "Eve" in text else 0.4 if "Bob" in text else 0.6)

    asked: list[str] = []
    found = measured(model, PEOPLE | {"label": "good"}, asked=asked)
    assert {name: one["n"] for name, one in found["groups"].items()} == {"a": 4, "b": 4, "c": 4} and len(
        asked
    ) == 12 == len({*asked})
    assert [found["groups"][name]["mean"] for name in "abc"] == pytest.approx([0.8, 0.5, 0.6]) and found[
        "gap"
    ] == pytest.approx(0.3)
    assert found["metric"] == "probability:good" and (found["n"], found["flip_rate"]) == (8, 0.25), (
        "only Bob's answer is another one, twice of eight"
    )
    assert sorted(frame(tmp_path).query("flipped == 1")["changed_text"]) == ["Bob went out.", "I know Bob."]


def test_two_biases_of_opposite_sign_are_a_gap(measured: Callable[..., Row], tmp_path: Path) -> None:
    """Ann against Bob goes up by what Eve against Tom goes down: the groups' means are alike."""
    chances = {"Ann": 0.9, "Bob": 0.3, "Eve": 0.3, "Tom": 0.9, "Cem": 0.6, "Ian": 0.6}
    model: Callable[[str], Answer] = lambda text: classify(next(p for name, p in chances.items() if name in text))  # noqa: E731
    found = measured(model, PEOPLE | {"label": "good"})
    assert found["groups"]["a"]["mean"] == pytest.approx(found["groups"]["b"]["mean"])
    assert found["gap"] == found["groups"]["b"]["gap"] == pytest.approx(0.6) and found["groups"]["c"][
        "gap"
    ] == pytest.approx(0.3)
    samples = [*samples_of_outcomes(tmp_path / "behaviour.parquet")]
    gaps = {(one.source, one.metric): one.value for one in samples}
    assert gaps["behaviour:invariance:b", "gap"] == pytest.approx(0.6)
    assert gaps["behaviour:invariance:b", "flipped"] == 1.0 and len({one.id for one in samples}) == 8
    assert {one.cluster for one in samples} == {None}, "pairs of a template share no document"


def test_a_gpts_groups_are_compared_by_a_pattern(measured: Callable[..., Row]) -> None:
    rows = [{"id": "1", "messages": [{"role": "user", "content": "go"}], "reference": "go"}]
    model: Callable[[str], Answer] = lambda text: say("You may enter." if "Bob" not in text else "No.")  # noqa: E731
    found = measured(model, PEOPLE | {"pattern": "(?i)may"}, rows, task="causal-lm", labels=[])
    assert (found["metric"], found["groups"]["a"]["mean"], found["groups"]["b"]["mean"], found["gap"]) == (
        "matches",
        1.0,
        0.5,
        0.5,
    )


def test_swapped_words_in_test_rows_are_compared_by_correctness_and_by_side(measured: Callable[..., Row]) -> None:
    rows = [
        {"id": str(place), "text": f"{'he' if place % 2 else 'she'} was good", "label": "good"} for place in range(10)
    ]
    test = {"test": "invariance", "swap": [["he", "she"]], "sides": ["male", "female"]}
    found = measured(lambda text: classify(0.9 if text.startswith("he") else 0.2), test, rows)
    assert found["groups"] == {
        "male": {"n": 10, "mean": 1.0},
        "female": {"n": 10, "mean": 0.0},
        "swap": {"n": 10, "gap": 1.0, "flip_rate": 1.0},
    }
    assert (found["gap"], found["flip_rate"]) == (1.0, 1.0)
    with pytest.raises(InputError, match="no test row holds a word of swap"):
        measured(lambda text: classify(0.9), test, GOOD)


def test_the_share_that_moved_as_told_is_counted(measured: Callable[..., Row]) -> None:
    test = {
        "test": "directional",
        "direction": "down",
        "label": "good",
        "append": ["Bad."],
        "prepend": ["Hm."],
        "rows": 20,
    }
    found = measured(lambda text: classify(0.3 if text.endswith("Bad.") else 0.9), test)
    assert (found["moved"], found["drop"], found["flip_rate"], found["original"]) == (0.5, 0.5, 0.5, pytest.approx(0.9))
    assert found["changed"] == pytest.approx(0.6)
    assert (
        measured(lambda text: classify(0.3 if text.endswith("Bad.") else 0.9), test | {"direction": "up"})["moved"] == 0
    )
    assert (
        measured(lambda text: classify(0.3 if text.endswith("Bad.") else 0.9), test | {"minimum_move": -0.1})["moved"]
        == 1
    ), "no move is forgiven"
    assert measured(lambda text: classify(math.nan), test)["moved"] == 0, (
        "a move that is no number did not move as told"
    )


@pytest.mark.parametrize(
    ("test", "model", "fields"),
    [
        ({"confidence_below": 0.7}, lambda text: classify(0.6 if "?" in text or text.endswith("0") else 0.9), {}),
        (
            {"pattern": "cannot"},
            lambda text: say("I cannot say." if "?" in text or text.endswith("0") else "Yes."),
            {"task": "causal-lm", "labels": []},
        ),
    ],
)
def test_abstentions_are_counted_where_wanted_and_where_not(
    measured: Callable[..., Row], test: Row, model: Any, fields: Row
) -> None:
    rows = (
        GOOD
        if "confidence_below" in test
        else [
            {"id": row["id"], "messages": [{"role": "user", "content": row["text"]}], "reference": "Yes."}
            for row in GOOD
        ]
    )
    found = measured(
        model, {"test": "abstention", "prompts": ["Who?", "What?", "Tell me more"], **test}, rows, **fields
    )
    assert (found["n"], found["changed"], found["drop"]) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found["original"] == found["groups"]["ordinary"]["mean"] == 2 / 20 and found["groups"]["prompt"] == {
        "n": 3,
        "mean": pytest.approx(2 / 3),
    }


def test_a_figure_that_is_no_number_is_null(measured: Callable[..., Row]) -> None:
    found = measured(lambda text: classify(math.nan if "Bob" in text else 0.5), PEOPLE | {"label": "good"})
    assert (
        found["gap"] is None
        and found["changed"] is None
        and found["groups"]["b"]["mean"] is None
        and found["original"] == 0.5
    )


def test_a_label_that_the_release_does_not_have_is_refused(measured: Callable[..., Row]) -> None:
    with pytest.raises(InputError, match="found the label 'great', expected one of bad, good"):
        measured(lambda text: classify(0.5), PEOPLE | {"label": "great"})
    with pytest.raises(InputError, match="rows of plain text"):
        measured(
            say,
            {"test": "robustness", "perturb": ["case"]},
            [{"id": "1", "text": "plain"}],
            task="causal-lm",
            labels=[],
        )


def test_without_tests_nothing_is_asked_and_no_older_file_stays(
    tmp_path: Path, write_release: Callable[..., Manifest]
) -> None:
    (tmp_path / "behaviour.parquet").write_text("old")
    assert (
        run_behaviour_tests(
            Evaluate(),
            write_release(tmp_path / "release"),
            lambda: iter(()),
            lambda place: say(""),
            lambda rows: [],
            tmp_path,
        )
        == {}
    )
    assert not (tmp_path / "behaviour.parquet").exists()
