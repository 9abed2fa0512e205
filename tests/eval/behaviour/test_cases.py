"""Which questions a test asks: drawn by seed, paired by place, in the form of the test rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from configs.run.behaviour import BehaviourTest
from eval.behaviour.cases import Case, cases_of
from eval.behaviour.perturb import last_question
from eval.measure.rows import draw

pytestmark = pytest.mark.unit
ADAPTER: TypeAdapter[Any] = TypeAdapter(BehaviourTest)
ROWS = [{"id": f"row-{number}", "text": f"He saw film number {number} today.", "label": "good"} for number in range(30)]
CHATS = [
    {
        "id": "0",
        "messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "gold"}],
        "reference": "gold",
    }
]
PROMPTS = [{"id": "0", "prompt": "go", "completion": "gold", "reference": "gold"}]


def cases(rows: list[dict[str, Any]] = ROWS, /, **test: Any) -> list[Case]:
    # a new iterator for each look
    given_rows: Callable[[], Iterable[dict[str, Any]]] = lambda: iter(rows)  # noqa: E731
    return list(cases_of(ADAPTER.validate_python(test), given_rows))


@given(st.integers(0, 40), st.integers(1, 40), st.integers())
def test_a_draw_takes_each_row_once_and_the_same_ones_again(count: int, size: int, seed: int) -> None:
    rows = [{"id": str(number)} for number in range(count)]
    drawn = draw(iter(rows), size, seed)
    assert drawn == draw(iter(rows), size, seed) and len(drawn) == min(count, size)
    assert drawn == list(enumerate(rows))[: len(drawn)] if count <= size else len(dict(drawn)) == size
    assert all(rows[number] is row for number, row in drawn)


def test_every_row_is_as_likely_to_be_drawn() -> None:
    rows = [{"id": str(number)} for number in range(10)]
    counts = [0] * 10
    for seed in range(2000):
        for number, _ in draw(rows, 3, seed):
            counts[number] += 1
    assert min(counts) > 500 and max(counts) < 700, "600 expected, standard deviation 20"


def test_robustness_spoils_the_same_drawn_rows_by_each_perturbation() -> None:
    found = cases(test="robustness", perturb=["typos", "case"], rows=5)
    assert [case.variant for case in found] == ["typos"] * 5 + ["case"] * 5 and len(
        {case.changed["id"] for case in found}
    ) == 10
    assert [case.number for case in found[:5]] == [case.number for case in found[5:]] and all(
        ROWS[case.number or 0] is case.original for case in found
    )
    assert all(case.changed["text"] != case.original["text"] and case.changed["label"] == "good" for case in found)
    assert [case.number for case in cases(test="robustness", perturb=["typos"], rows=5, seed=1)] != [
        case.number for case in found[:5]
    ]


def test_templates_pair_each_groups_words_with_the_first_groups_by_place() -> None:
    groups = {"a": ["Ann", "Eve"], "b": ["Bob", "Tom"], "c": ["Cem", "Ian"]}
    found = cases(
        test="invariance", templates=["{who} of {city}."], groups=groups, fill={"city": ["Rome", "Oslo"]}, label="good"
    )
    texts = [(case.base, case.original["text"], case.group, case.changed["text"]) for case in found]
    assert len(texts) == 2 * 2 * 2 and texts[:3] == [
        ("a", "Ann of Rome.", "b", "Bob of Rome."),
        ("a", "Ann of Rome.", "c", "Cem of Rome."),
        ("a", "Eve of Rome.", "b", "Tom of Rome."),
    ]
    assert len({case.original["id"] for case in found}) == 4 and all(case.number is None for case in found), (
        "the first group is asked once"
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (CHATS, {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ann?"}]}),
        (PROMPTS, {"prompt": "Be brief.\nAnn?"}),
    ],
)
def test_a_template_is_asked_in_the_form_of_the_test_rows(rows: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    (case,) = cases(
        rows,
        test="invariance",
        templates=["{who}?"],
        groups={"a": ["Ann"], "b": ["Bob"]},
        system="Be brief.",
        pattern="x",
    )
    assert {name: value for name, value in case.original.items() if name != "id"} == expected


def swapped(text: str, **row: Any) -> list[tuple[str, str, str]]:
    pairs = [["he", "she"], ["his", "her"]]
    found = cases(
        [{"id": "1", **(row or {"text": text, "label": "x"})}], test="invariance", swap=pairs, sides=["male", "female"]
    )
    return [(last_question(case.changed), case.base, case.group) for case in found]


def test_words_take_each_others_place_whole_words_only_and_case_kept() -> None:
    assert swapped("He lost his hat; the hero left.") == [("She lost her hat; the hero left.", "male", "female")]
    assert swapped("SHE and her dog and he") == [("HE and his dog and she", "female", "male")]
    assert swapped("They left the shed.") == []
    assert swapped("", tokens=["His", "hat"], tags=["O", "O"]) == [("Her hat", "male", "female")]


def test_only_rows_with_a_word_to_swap_are_drawn() -> None:
    rows = [
        {"id": str(number), "text": "he came" if number % 10 == 0 else "it rained", "label": "x"}
        for number in range(100)
    ]
    found = cases(rows, test="invariance", swap=[["he", "she"]], rows=4)
    assert len(found) == 4 and all(
        case.number is not None and case.number % 10 == 0 and case.original is rows[case.number] for case in found
    )


def test_edits_take_turns_and_pairs_are_two_questions_of_their_own() -> None:
    found = cases(
        test="directional",
        direction="up",
        label="good",
        append=["Great."],
        prepend=["Wow:"],
        pairs=[["bad", "fine"]],
        rows=3,
    )
    assert (found[0].original["text"], found[0].changed["text"], found[0].number) == ("bad", "fine", None)
    for case, edit in zip(found[1:], ("{} Great.", "Wow: {}", "{} Great."), strict=True):
        assert case.changed["text"] == edit.format(case.original["text"]) and case.number is not None


def test_abstention_asks_its_prompts_and_looks_at_ordinary_rows_as_they_were_answered() -> None:
    found = cases(CHATS, test="abstention", prompts=["Who will win?", "?"], pattern="cannot")
    assert [(case.variant, case.number, last_question(case.original)) for case in found] == [
        ("prompt", None, "Who will win?"), ("prompt", None, "?"), ("ordinary", 0, "go"),
    ]  # fmt: skip


def test_a_preference_pairs_question_is_asked_without_its_second_answer() -> None:
    (case,) = cases([CHATS[0] | {"rejected": "worse"}], test="robustness", perturb=["case"])
    assert "rejected" not in case.changed and case.changed["reference"] == "gold" and "rejected" in case.original


@pytest.mark.parametrize(
    "test", [{"test": "robustness", "perturb": ["case"]}, {"test": "invariance", "swap": [["go", "come"]]}]
)
def test_a_row_that_no_answer_is_to_be_like_is_not_asked_about(test: dict[str, Any]) -> None:
    rows = [CHATS[0] | {"id": str(number), "desirable": number % 2 == 0} for number in range(6)]
    assert [case.id for case in cases(rows, **test)] == ["0", "2", "4"]
