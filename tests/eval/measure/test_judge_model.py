"""Answers scored by a judge model: what it is shown, how its word is read, what is kept, and that nothing is asked
twice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError, InputError
from configs.run.judge import Judge
from eval.measure import judge_model
from eval.measure.judge_answer import read_score
from eval.measure.judge_model import Judged, judge_digest, judge_rows, scores_of
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
ROWS = [
    {
        "id": f"row-{number}",
        "messages": [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": "gold"}],
        "reference": "gold",
    }
    for number in range(6)
]
GRADED = {
    "base_url": "http://127.0.0.1:1/v1",
    "model": "m",
    "prompt": "{{ question }} | {{ answer }} | {{ reference }}",
    "scale": (1, 5),
    "concurrency": 1,
}
MakeJudge = Callable[..., Judge]


def settings_of(**changes: Any) -> Judge:
    return Judge.model_validate(GRADED | changes)


def answered(number: int) -> Answer:
    return Answer(f"answer {number}", None, None, None, 0.1, 3)


class Server:
    """Says what it is told to; `asked` holds (url, body, key)."""

    def __init__(self) -> None:
        self.says: Any = "Score: 4"
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.fails_after = math.inf

    async def post(self, client: Any, url: str, body: dict[str, Any], key: str | None) -> Any:
        if len(self.asked) >= self.fails_after:
            raise ExternalError("killed")
        self.asked.append((url, body, key))
        return {"choices": [{"message": {"content": self.says}}]} if isinstance(self.says, str) else self.says


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    fake = Server()
    monkeypatch.setattr(judge_model, "post", fake.post)
    return fake


def test_a_judge_sees_question_answer_and_reference_at_temperature_0(server: Server, tmp_path: Path) -> None:
    scores = judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    assert [one.score for one in scores.values()] == [4.0] * 6 and [*scores] == [row["id"] for row in ROWS]
    url, body, key = server.asked[2]
    assert (url, key, body["temperature"], body["max_tokens"]) == (
        "http://127.0.0.1:1/v1/chat/completions",
        None,
        0,
        256,
    )
    shape = body["response_format"]["json_schema"]["schema"]
    assert body["response_format"]["type"] == "json_schema" and shape["required"] == ["reason", "score"]
    assert body["messages"] == [{"role": "user", "content": "question 2 | answer 2 | gold"}]
    lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert [(line["id"], line["prompt"], line["answer"], line["score"]) for line in lines][:1] == [
        ("row-0", "question 0 | answer 0 | gold", "Score: 4", 4.0)
    ]


def test_a_killed_judgement_asks_nothing_twice_and_a_finished_one_nothing_at_all(
    server: Server, tmp_path: Path
) -> None:
    server.fails_after = 3
    with pytest.raises(ExternalError, match="killed"):
        judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    with (tmp_path / "judge.jsonl").open("a") as stream:
        stream.write('{"id": "row-5", "jud')
    server.fails_after = math.inf
    first = judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    assert (
        len(server.asked) == 6
        and judge_rows(settings_of(concurrency=3), iter(ROWS), answered, tmp_path) == first
        and len(server.asked) == 6
    )


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"prompt": "{{ answer }}"}, {"scale": (0, 5)}, {"max_tokens": 8}]
)
def test_another_judge_is_asked_anew(server: Server, tmp_path: Path, change: dict[str, Any]) -> None:
    judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    judge_rows(settings_of(**change), iter(ROWS), answered, tmp_path)
    assert len(server.asked) == 12


def test_a_judge_is_known_by_what_it_is_asked_and_not_by_how_many_rows() -> None:
    same = {judge_digest(settings_of(**one)) for one in ({}, {"rows": 9}, {"seed": 1}, {"concurrency": 9})}
    changes = ({"version": "2"}, {"structured": False}, {"model": "x"})
    other = {judge_digest(settings_of(**one)) for one in changes}
    assert len(same) == 1 and len(other) == 3 and not same & other


def test_only_answers_that_changed_are_judged_again(server: Server, tmp_path: Path) -> None:
    judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    judge_rows(settings_of(), iter(ROWS), lambda number: answered(number if number else 99), tmp_path)
    assert [body["messages"][0]["content"] for _, body, _ in server.asked[6:]] == ["question 0 | answer 99 | gold"]


def test_the_key_goes_into_the_request_and_into_no_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    judge_rows(settings_of(api_key_variable="JUDGE_KEY"), iter(ROWS), answered, tmp_path)
    assert {key for _, _, key in server.asked} == {"sk-very-secret"}
    assert all("sk-very-secret" not in file.read_text() for file in tmp_path.iterdir())
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(InputError, match="found no JUDGE_KEY"):
        judge_rows(settings_of(api_key_variable="JUDGE_KEY", model="other"), iter(ROWS), answered, tmp_path)


@pytest.mark.parametrize(
    "says",
    ["I would rather not say.", "", {"error": "busy"}, {"choices": []}, {"choices": [{"message": {"content": None}}]}],
)
def test_a_word_without_a_score_is_missing_and_counted(server: Server, tmp_path: Path, says: Any) -> None:
    server.says = says
    found = judge_rows(settings_of(), iter(ROWS), answered, tmp_path)
    columns = scores_of(found, "row-1")
    assert columns["judge_missing"] == 1.0 and math.isnan(columns["judge_score"])


def test_drawn_rows_alone_are_judged_and_the_others_have_no_score(server: Server, tmp_path: Path) -> None:
    found = judge_rows(settings_of(rows=2), iter(ROWS), answered, tmp_path)
    assert len(found) == 2 == len(server.asked)
    columns, missing = (
        [scores_of(found, str(row["id"]))[name] for row in ROWS] for name in ("judge_score", "judge_missing")
    )
    assert columns.count(4.0) == 2 == missing.count(0.0) and sum(math.isnan(one) for one in columns) == 4 == sum(
        math.isnan(one) for one in missing
    )
    assert scores_of({}, "row-0") == {}, "without a judge there is no column"


@pytest.mark.parametrize(
    ("says", "score"),
    [
        ('{"reason": "it has 2 faults", "score": 3}', 3), ('```json\n{"reason": "", "score": 4.5}\n```', 4.5),
        ('{"score": "4"}', 4), ('{"score": 9}', None), ('{"score": true}', None), ('{"reason": "4"}', None),
        ('{"score": null}', None), ("[4]", None), ("4", 4), ("4.5", 4.5), ("Score: 3", 3), ("**Score:** 3", 3),
        ("score = 2", 2), ("4/5", 4), ("4 out of 5", 4), ("4/10", None), ("4.", 4),
        ("It has 2 faults.\nScore: 3", 3), ("It has 2 faults. Score: 3", None), ("I give it 2.", None),
        ("Score: 1. On reflection: score: 2", None), ("2\n3", None), ("6", None), ("0", None), ("-1", None),
        ("2 or 3", None), ("none", None), ("Score: 9", None), ("Score: -1", None),
    ],
)  # fmt: skip
def test_a_score_is_read_where_one_is_stated_and_never_guessed(says: str, score: float | None) -> None:
    assert read_score(settings_of(), says) == score


@pytest.mark.parametrize(
    ("says", "score"),
    [
        ('{"reason": "bad it is not", "score": "good"}', 1), ("Good.", 1), ("bad", 0), ("Score: Bad", 0),
        ("Not good.", None), ("not good", None), ("It is BAD, very bad", None), ("not bad but good", None),
        ('{"score": "goodness"}', None), ("", None),
    ],
)  # fmt: skip
def test_a_choice_is_read_where_it_is_the_answer(says: str, score: float | None) -> None:
    assert read_score(settings_of(scale=None, choices={"good": 1, "bad": 0}), says) == score


PAIR = {"scale": None, "pairwise": True, "prompt": "{{ question }} | {{ first }} | {{ second }}"}


@pytest.mark.parametrize(
    ("prefers", "score"),
    [("answer", 1.0), ("gold", 0.0), ("the first", 0.5), ("the second", 0.5), ("neither", 0.5), ("nothing", None)],
)
def test_a_pair_is_shown_in_both_orders_and_a_verdict_by_place_is_a_tie(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefers: str, score: float | None
) -> None:
    async def post(client: Any, url: str, body: dict[str, Any], key: str | None) -> Any:
        prompt = body["messages"][0]["content"]
        server.asked.append((url, body, key))
        first = prompt.split(" | ")[1].split()[0]
        word = {"the first": "first", "the second": "second", "neither": "tie", "nothing": "perhaps"}.get(
            prefers, "first" if first == prefers else "second"
        )
        return {"choices": [{"message": {"content": json.dumps({"reason": "", "score": word})}}]}

    monkeypatch.setattr(judge_model, "post", post)
    found = judge_rows(settings_of(**PAIR), iter(ROWS), answered, tmp_path)
    assert {one.score for one in found.values()} == {score} and len(server.asked) == 12
    assert scores_of(found, "row-0")["judge_missing"] == float(score is None)
    judge_rows(settings_of(**PAIR), iter(ROWS), answered, tmp_path)
    assert len(server.asked) == 12


def test_a_persons_scores_are_held_beside_the_judges_own_of_the_same_texts(server: Server, tmp_path: Path) -> None:
    """Of six rows a person scored four references: two as the judge does (4), one otherwise, one by an empty cell."""
    humans = ["4", 4, 2, "", None, None]
    rows = [row | {"kept": json.dumps({"person": human})} for row, human in zip(ROWS, humans, strict=True)]
    found = judge_rows(settings_of(human="person"), iter(rows), answered, tmp_path)
    assert [one.agrees for one in found.values()] == [1.0, 1.0, 0.0, None, None, None]
    assert len(server.asked) == 6 + 3 and found["row-5"] == Judged(4.0)
    with pytest.raises(InputError, match="row-0 has 'fine' in person, expected a score"):
        judge_rows(settings_of(human="person"), iter([rows[0] | {"kept": '{"person": "fine"}'}]), answered, tmp_path)


@given(st.text())
def test_a_score_lies_on_the_scale_whatever_the_judge_says(says: str) -> None:
    score = read_score(settings_of(), says)
    assert score is None or 1 <= score <= 5
