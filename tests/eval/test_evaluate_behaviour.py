"""Behaviour tests and a judge as parts of one evaluation: in metrics.json, beside the predictions, and asked once. The
servers are fakes at the seam."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.errors import ExternalError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.run.config import RunConfig
from eval import evaluate
from eval.measure import answers, cache, judge_model
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
RUN = RunPaths.of("run")
JUDGE = {"base_url": "http://127.0.0.1:1/v1", "model": "m", "prompt": "{{ question }} {{ answer }}", "scale": [1, 5]}
TESTS = [
    {"test": "robustness", "perturb": ["truncation"], "rate": 0.5},
    {"test": "abstention", "prompts": ["Who knows?"], "pattern": "cannot"},
]


class Server:
    """Repeats the question; cannot answer one that asks who knows."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.judged = 0
        self.fails_after = math.inf

    @contextlib.contextmanager
    def temporary_slot(self, *_: Any, **__: Any) -> Iterator[str]:
        yield "http://fake"

    async def ask(
        self, client: Any, url: str, name: str, manifest: Manifest, row: dict[str, Any], **settings: Any
    ) -> Answer:
        if len(self.asked) >= self.fails_after:
            raise ExternalError("killed")
        question = row["messages"][0]["content"]
        self.asked.append(question)
        return Answer("I cannot." if "knows" in question else question, None, None, None, 0.1, 3)

    async def post(self, client: Any, url: str, body: dict[str, Any], key: str | None) -> Any:
        self.judged += 1
        return {"choices": [{"message": {"content": "no word" if "word 1" in body["messages"][0]["content"] else "4"}}]}


@pytest.fixture
def server(checkout: Path, monkeypatch: pytest.MonkeyPatch, write_release: Callable[..., Manifest]) -> Server:
    fake = Server()
    monkeypatch.setattr(answers, "ask", fake.ask)
    monkeypatch.setattr(judge_model, "post", fake.post)
    monkeypatch.setattr(evaluate, "temporary_slot", fake.temporary_slot)
    monkeypatch.setattr(cache, "keep_evaluation", lambda *_: None)
    monkeypatch.setattr(cache, "find_evaluation", lambda *_: False)
    write_release(RUN.release, task="causal-lm", labels=[])
    RUN.data.mkdir(parents=True)
    chats = [
        [{"role": "user", "content": f"word {number} said twice"}, {"role": "assistant", "content": "gold"}]
        for number in range(4)
    ]
    rows = [
        {"id": f"row-{number}", "messages": chat, "reference": chat[0]["content"]} for number, chat in enumerate(chats)
    ]
    pandas.DataFrame(rows).to_parquet(RUN.data / "test.parquet")
    (RUN.data / "data_card.json").write_text('{"test_fingerprint": "sha256:rows"}')
    return fake


def test_behaviour_and_judgement_stand_in_the_record_and_beside_it(
    server: Server, config: Callable[..., RunConfig]
) -> None:
    run = config(task="causal-lm", evaluate={"behaviour": TESTS, "judge": JUDGE, "concurrency": 1})
    record = evaluate.evaluate(run, RUN)
    assert record == json.loads((RUN.evaluation / "metrics.json").read_text())
    robust = record["behaviour"]["robustness"]
    assert (robust["metric"], robust["n"], robust["original"], robust["changed"], robust["flip_rate"]) == (
        "exact_match",
        4,
        1.0,
        0.0,
        1.0,
    )
    assert (record["behaviour"]["abstention"]["changed"], record["behaviour"]["abstention"]["original"]) == (1.0, 0.0)
    assert (record["metrics"]["judge_score"], record["metrics"]["judge_missing"]) == (4.0, 0.25) and record[
        "harness"
    ] == {}
    predictions = pandas.read_parquet(RUN.evaluation / "predictions.parquet").set_index("id")
    assert (
        predictions["judge_score"].isna().tolist() == [False, True, False, False]
        and predictions["correct"].tolist() == [1.0] * 4
    )
    told = pandas.read_parquet(RUN.evaluation / "behaviour.parquet")
    assert told["test"].tolist() == ["robustness"] * 4 + ["abstention"] * 5 and set(
        told[told["test"] == "robustness"]["id"]
    ) == set(predictions.index)
    assert len(server.asked) == 4 + 4 + 1 and server.judged == 4
    assert evaluate.evaluate(run, RUN) == record and len(server.asked) == 9


@pytest.mark.parametrize("killed_after", [2, 5, 8])
def test_a_killed_evaluation_asks_no_changed_question_twice(
    server: Server, config: Callable[..., RunConfig], killed_after: int
) -> None:
    run = config(task="causal-lm", evaluate={"behaviour": TESTS, "concurrency": 1})
    server.fails_after = killed_after
    with pytest.raises(ExternalError, match="killed"):
        evaluate.evaluate(run, RUN)
    assert not (RUN.evaluation / "metrics.json").exists()
    server.fails_after = math.inf
    evaluate.evaluate(run, RUN)
    assert len(server.asked) == 9 == len({*server.asked})


def test_another_test_is_another_evaluation_and_ordinary_answers_stay(
    server: Server, config: Callable[..., RunConfig]
) -> None:
    evaluate.evaluate(config(task="causal-lm"), RUN)
    record = evaluate.evaluate(config(task="causal-lm", evaluate={"behaviour": TESTS[:1]}), RUN)
    assert "robustness" in record["behaviour"] and len(server.asked) == 4 + 4
