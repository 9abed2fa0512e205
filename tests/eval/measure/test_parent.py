"""A release beside its parent: the divergence is one, and what is written says which figures were measured how."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.metrics import Metrics
from configs.release import Manifest
from configs.run.config import RunConfig
from eval.measure import parent
from eval.measure.parent import Probe, compare, divergence, labels_of, write_card
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
WEIGHTS = st.lists(st.floats(0.001, 1), min_size=2, max_size=8)


def distribution(weights: list[float]) -> dict[str, float]:
    return {str(index): math.log(weight / sum(weights)) for index, weight in enumerate(weights)}


def exact(before: dict[str, float], after: dict[str, float]) -> float:
    return sum(math.exp(value) * (value - after[name]) for name, value in before.items())


@given(
    st.integers(2, 8).flatmap(
        lambda size: st.tuples(*[st.lists(st.floats(0.001, 1), min_size=size, max_size=size)] * 2)
    )
)
def test_over_all_outcomes_the_divergence_is_the_exact_one(pair: tuple[list[float], list[float]]) -> None:
    before, after = (distribution(weights) for weights in pair)
    assert divergence(before, after) == pytest.approx(exact(before, after), abs=1e-6)


@given(st.tuples(*[st.lists(st.floats(0.001, 1), min_size=6, max_size=6)] * 2), st.integers(1, 6))
def test_over_the_likeliest_outcomes_it_is_a_lower_bound(pair: tuple[list[float], list[float]], kept: int) -> None:
    before, after = (distribution(weights) for weights in pair)
    top = [dict(sorted(found.items(), key=lambda item: -item[1])[:kept]) for found in (before, after)]
    assert -1e-9 <= divergence(*top) <= exact(before, after) + 1e-6


@given(WEIGHTS)
def test_equal_distributions_do_not_diverge(weights: list[float]) -> None:
    assert divergence(distribution(weights), distribution(weights)) == pytest.approx(0, abs=1e-9)


def test_a_certain_label_that_the_release_denies_is_far_but_finite() -> None:
    assert 15 < divergence(labels_of({"bad": 0.0, "good": 1.0}), labels_of({"bad": 1.0, "good": 0.0})) < 25
    assert labels_of(None) == {}


def evaluation(
    folder: Path, answers: list[str], probs: list[float], speed: float, accuracy: float, size: int
) -> Metrics:
    folder.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame({"id": ["a", "b", "c", "d"], "answer": answers}).to_parquet(folder / "predictions.parquet")
    named = {name: labels_of({"bad": 1 - value, "good": value}) for name, value in zip("abcd", probs, strict=True)}
    (folder / "probe.json").write_text(Probe(named, speed, speed * 10).as_json())
    return {"release": "mine@sha256:ab", "n": 4, "metrics": {"accuracy": accuracy}, "size_bytes": size}


def test_agreement_divergence_change_size_and_speed_come_from_both_evaluations(tmp_path: Path) -> None:
    record = evaluation(tmp_path, ["good", "bad", "bad", "bad"], [0.9, 0.5, 0.5, 0.5], 6.0, 0.5, 300)
    before = evaluation(tmp_path / "parent", ["good", "bad", "good", "bad"], [0.8, 0.5, 0.5, 0.5], 4.0, 0.75, 1000)
    figures = compare(record, before, tmp_path)
    assert (
        figures["parent_agreement"] == 0.75
        and figures["accuracy_change"] == -0.25
        and figures["parent_accuracy"] == 0.75
    )
    assert (
        figures["size_ratio"],
        figures["speed_ratio"],
        figures["tokens_per_second"],
        figures["parent_tokens_per_second"],
    ) == (0.3, 1.5, 60, 40)
    assert figures["parent_kl_divergence"] == pytest.approx((0.8 * math.log(0.8 / 0.9) + 0.2 * math.log(0.2 / 0.1)) / 4)


def test_the_card_tells_each_figure_beside_the_parents(tmp_path: Path) -> None:
    record = evaluation(tmp_path, ["good"] * 4, [0.9] * 4, 6.0, 0.5, 300)
    before = evaluation(tmp_path / "parent", ["good"] * 4, [0.9] * 4, 4.0, 0.75, 1000)
    record["metrics"] |= compare(record, before, tmp_path)
    config = RunConfig.model_validate(
        {
            "name": "mine",
            "task": "sequence-classification",
            "base": {"path": "b"},
            "data": {"source": "sentiment"},
            "train": {"max_steps": 7},
            "gate": "g",
        }
    )
    card = write_card(record, before, config)
    for fact in (
        "| accuracy | 0.5 | 0.75 | -0.2500 |",
        "| tokens per second | 60 | 40 | x 1.50",
        "| bytes of weights | 300 | 1,000 | x 0.300 |",
    ):
        assert fact in card
    assert "100.0% of 4 test rows" in card and "label probabilities" in card and "mine@sha256:ab" in card


def test_a_regressions_probe_has_no_distribution_and_no_divergence(tmp_path: Path) -> None:
    records = [evaluation(path, ["1"] * 4, [0.5] * 4, 1.0, 0.0, 10) for path in (tmp_path, tmp_path / "parent")]
    for path in (tmp_path, tmp_path / "parent"):
        (path / "probe.json").write_text(Probe({name: {} for name in "abcd"}, 1.0, 1.0).as_json())
    assert "parent_kl_divergence" not in compare(records[0], records[1], tmp_path)


def test_a_probe_asks_drawn_rows_and_times_the_whole_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    async def ask(
        client: Any, url: str, name: str, manifest: Manifest, row: dict[str, Any], *, max_new_tokens: int
    ) -> Answer:
        asked.append((row["id"], max_new_tokens))
        await asyncio.sleep(0)
        return Answer("good", "good", {"bad": 0.25, "good": 0.75}, None, 0.1, 0, prompt_tokens=7)

    monkeypatch.setattr(parent, "ask", ask)
    config = RunConfig.model_validate(
        {
            "name": "mine",
            "task": "sequence-classification",
            "base": {"path": "b"},
            "data": {"source": "sentiment"},
            "train": {"max_steps": 7},
            "gate": "g",
        }
        | {"evaluate": {"max_new_tokens": 9}}
    )
    rows = [{"id": f"row-{number}", "text": "film"} for number in range(parent.PROBED_ROWS + 500)]
    fields: Any = {"task": "sequence-classification", "problem": "single_label"}
    drawn = parent.rows_to_probe(lambda: iter(rows))
    assert drawn == parent.rows_to_probe(lambda: iter(rows)), "of every release the same"
    assert len(drawn) == parent.PROBED_ROWS and drawn != rows[: parent.PROBED_ROWS], "not the first of the file"
    found = parent.probe("http://fake", "release", Manifest.model_construct(**fields), drawn, config)
    assert [*found.distributions] == [row["id"] for row in drawn]
    assert found.distributions[drawn[0]["id"]] == labels_of({"bad": 0.25, "good": 0.75})
    assert [size for _, size in asked] == [1] * parent.PROBED_ROWS + [9] * parent.PROBED_ROWS
    assert found.tokens_per_second == pytest.approx(7 * found.answers_per_second, rel=0.01)


def test_a_first_token_is_told_by_its_id_with_the_gold_answer_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    async def post(client: Any, url: str, body: dict[str, Any], key: str | None) -> Any:
        sent.append(body)
        top = [{"token": "token_id:5", "logprob": -0.1}, {"token": "token_id:6", "logprob": -3.0}]
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}

    monkeypatch.setattr(parent, "post", post)
    row = {"id": "1", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "gold"}]}
    found = asyncio.run(parent.first_token(None, "http://fake", "release", row))  # type: ignore[arg-type]
    assert found == {"token_id:5": -0.1, "token_id:6": -3.0} and "gold" not in json.dumps(sent)
    assert (sent[0]["max_tokens"], sent[0]["top_logprobs"], sent[0]["return_tokens_as_token_ids"]) == (1, 20, True)
