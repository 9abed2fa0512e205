"""How often the same test rows were looked at: by which rows they are known again, and what each look leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eval.rules.holdout
from configs.errors import ExternalError
from eval.metrics.sketch import SKETCHED_ROWS, share, sketch_of
from eval.rules.holdout import record_look
from infra.dvc.looks import Look
from infra.state.places import OLDEST_LOOKS, earlier

pytestmark = pytest.mark.unit
GATE, OTHER_GATE = (f"sha256:{letter * 64}" for letter in "ef")
RELEASES = [f"run@sha256:{letter * 64}" for letter in "abc"]
QUESTIONS = [f"question {number}" for number in range(40)]


@pytest.fixture(autouse=True)
def no_store(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(look: Look, is_same: object) -> int:
        raise ExternalError("the store is down")

    monkeypatch.setattr(eval.rules.holdout, "count_in_remote", down)


def look(release: str, questions: list[str] = QUESTIONS, gate: str = GATE) -> int:
    """The fingerprint is another for every other set of rows."""
    rows = f"sha256:{len(questions)}-{questions[0].replace(' ', '-')}"
    number, counted = record_look(rows, tuple(sketch_of(questions)), release, gate)
    assert not counted, "the store is down"
    return number


def test_a_release_judged_again_by_the_same_gate_is_no_new_look() -> None:
    assert [look(one) for one in (RELEASES[0], RELEASES[1], RELEASES[0], RELEASES[1])] == [1, 2, 1, 2]
    assert look(RELEASES[0].replace("run@", "renamed@")) == 1, "the bytes count, not their name"
    assert look(RELEASES[0], gate=OTHER_GATE) == 3
    assert look(RELEASES[2]) == 4 == look(RELEASES[2])


def test_added_rows_go_on_with_the_count_and_other_rows_have_their_own() -> None:
    assert look(RELEASES[0]) == 1
    more = [*QUESTIONS, *(f"new {number}" for number in range(100))]
    assert look(RELEASES[0], more) == 2, "looking again after adding rows is the second look"
    assert look(RELEASES[0], [f"{one} " for one in more[:130]]) == 3
    assert look(RELEASES[0], [f"another {number}" for number in range(40)]) == 1


def test_looks_that_an_earlier_version_kept_or_published_count_too() -> None:
    earlier(OLDEST_LOOKS).parent.mkdir(parents=True)
    rows = "sha256:40-question-0"
    line = json.dumps({"dataset": rows, "digest": "sha256:" + "9" * 64})
    earlier(OLDEST_LOOKS).write_text(f'{line}\n{{"dataset": "torn')
    published = Path("releases/run@bbbbbbbbbbbb/gate/verdict.json")
    published.parent.mkdir(parents=True)
    published.write_text(json.dumps({"release": "run@sha256:" + "8" * 64, "dataset": rows, "binding": None}))
    assert look(RELEASES[0]) == 3 == look(RELEASES[0])
    assert look(RELEASES[1]) == 4


SETS = st.sets(st.integers(0, 60), min_size=1, max_size=40)


@given(SETS, SETS)
def test_of_sets_that_are_known_whole_the_share_is_exact(one: set[int], other: set[int]) -> None:
    first, second = (sketch_of(f"row {number}" for number in found) for found in (one, other))
    assert share(first, second) == share(second, first) == len(one & other) / min(len(one), len(other))
    assert share(first, sketch_of(f"row {number}" for number in one | other)) == 1


@pytest.mark.parametrize("shared", [0.0, 0.05, 0.5, 1.0])
def test_of_larger_sets_it_is_estimated(shared: float) -> None:
    one = [f"row {number}" for number in range(5000)]
    other = [*one[: int(5000 * shared)], *(f"other {number}" for number in range(20_000))]
    found = share(sketch_of(one), sketch_of(other))
    assert len(sketch_of(one)) == SKETCHED_ROWS and found == pytest.approx(shared, abs=0.12)


def test_rows_are_known_by_what_is_asked_whatever_their_ids_case_and_spaces() -> None:
    assert sketch_of(["How  are you?", "b"]) == sketch_of(["b ", "how are\nYou?"]) and not sketch_of([])
