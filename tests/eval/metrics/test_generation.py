"""Answers held against their references: each kind by the figures that say something of it, and those of the libraries
exactly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from configs.run.evaluate import Evaluate
from eval.metrics.aggregate import figure
from eval.metrics.generation import NO_OVERLAP, f1, fields, normalize, score_answer
from eval.metrics.score import score
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
CALL = '{"name": "f", "accepted": {"a": [1]}}'
SENTENCES = st.text(alphabet="the cat sat. A,B 2é", max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def answered(text: str, reference: str, **settings: Any) -> Any:
    return score(
        "causal-lm",
        {"id": "1", "reference": reference},
        Answer(text, None, None, -0.1, 0.5, 9, prompt_tokens=4),
        Evaluate(**settings),
    )


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', (1, 1, 1)),
        ("f(a=1)", (1, 0, 1)),
        ("f(a=2)", (0, 0, 1)),
        ("no call", (0, 0, 0)),
    ],
)
def test_a_call_is_matched_by_its_syntax_tree_and_by_nothing_of_texts(text: str, outcome: tuple[int, int, int]) -> None:
    row = answered(text, CALL)
    assert (row["exact_match"], row["valid_json"], row["name_match"]) == outcome and row["correct"] == row[
        "exact_match"
    ]
    assert all(row[name] is None for name in (*NO_OVERLAP, "field_f1", "valid_schema"))
    assert (row["gold"], row["answer"], row["latency_seconds"], row["prompt_tokens"], row["completion_tokens"]) == (
        CALL,
        text,
        0.5,
        4,
        9,
    )


def test_a_text_has_no_figures_of_calls_or_objects_and_an_object_none_of_texts() -> None:
    text, thing = answered("a cat", "the cat"), answered('{"a": 1, "b": [2, 3]}', '{"b": [2, 4], "a": 1}')
    assert all(text[name] is None for name in ("name_match", "valid_json", "valid_schema", "field_f1")) and all(
        text[name] is not None for name in NO_OVERLAP
    )
    assert (
        thing["field_f1"] == pytest.approx(2 / 3)
        and thing["valid_json"] == 1
        and thing["name_match"] is None
        and thing["rouge_l"] is None
    )
    assert text.keys() == thing.keys(), "one table holds both"


def test_rows_of_all_kinds_have_the_same_columns_and_each_figure_its_own_rows() -> None:
    frame = pandas.DataFrame(
        [answered("x", CALL), answered("f(a=1)", CALL), answered("a cat", "the cat"), answered("[]", '{"a": 1}')]
    )
    assert [figure(name, frame) for name in ("exact_match", "name_match", "valid_json", "token_f1", "field_f1")] == [
        0.25,
        0.5,
        0,
        1,
        0,
    ]
    assert all(math.isnan(figure(name, frame[:2])) for name in ("token_f1", "bleu", "chrf", "field_f1")), (
        "not 0: there was nothing to measure"
    )


@pytest.mark.parametrize(
    ("how", "same"),
    [("none", []), ("whitespace", ["  The\n cat. "]), ("squad", ["  The\n cat. ", "a CAT", "cat!?"])],
)
def test_exact_match_is_after_the_normalisation_that_is_stated(how: str, same: list[str]) -> None:
    for text in ("  The\n cat. ", "a CAT", "cat!?"):
        assert answered(text, "The cat.", normalize=how)["exact_match"] == float(text in same), (how, text)
    assert answered("The cat.", "The cat.", normalize=how)["exact_match"] == 1


@given(SENTENCES, st.sampled_from(["none", "whitespace", "squad"]))
def test_a_normalised_text_is_not_changed_again(text: str, how: Any) -> None:
    once = normalize(text, how)
    assert normalize(once, how) == once
    assert how == "none" or once == " ".join(once.split())


@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=8))
def test_bleu_and_chrf_of_a_set_are_sacrebleus_of_the_corpus(pairs: list[tuple[str, str]]) -> None:
    frame, (predicted, gold) = pandas.DataFrame([answered(*pair) for pair in pairs]), zip(*pairs, strict=True)
    assert figure("bleu", frame) == pytest.approx(BLEU().corpus_score(list(predicted), [list(gold)]).score)
    assert figure("chrf", frame) == pytest.approx(CHRF().corpus_score(list(predicted), [list(gold)]).score)
    sentences = [BLEU(effective_order=True).sentence_score(one, [other]).score for one, other in pairs]
    assert figure("sentence_bleu", frame) == pytest.approx(sum(sentences) / len(pairs))
    assert figure("sentence_chrf", frame) == pytest.approx(
        sum(CHRF().sentence_score(one, [other]).score for one, other in pairs) / len(pairs)
    )
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert figure(ours, frame) == pytest.approx(
            sum(rouge.score(other, one)[theirs].fmeasure for one, other in pairs) / len(pairs)
        )


@pytest.mark.parametrize(
    ("predicted", "gold", "wanted"),
    [("the cat", "cat", 1), ("a big cat", "cat sat", 0.5), ("dog", "cat", 0), ("the", "a", 1), ("", "cat", 0)],
)
def test_token_f1_is_squads(predicted: str, gold: str, wanted: float) -> None:
    assert answered(predicted, gold)["token_f1"] == wanted


@given(JSON, JSON)
def test_fields_are_alike_exactly_where_the_values_are(one: Any, other: Any) -> None:
    assert f1(fields({"x": one}), fields({"x": one})) == 1
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fields({"x": one}) == fields({"x": other})) == same


def test_answers_are_held_against_the_schema_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.json").write_text(
        '{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/n"}}, '
        '"$defs": {"n": {"type": "integer"}}}'
    )
    for text, wanted in (('{"a": 1}', 1), ('{"a": "1"}', 0), ("{}", 0), ("no json", 0), ("[" * 100_000, 0)):
        row = answered(text, "any text", json_schema="s.json")
        assert row["valid_schema"] == wanted and row["valid_json"] == float(text[:1] == "{"), text[:20]


def test_perplexity_is_per_token_over_all_texts_and_references() -> None:
    answers = [Answer("", None, None, None, 0.1, 0, logprob=-n * math.log(8), scored_tokens=n) for n in (1, 5)]
    for row in ({"id": "1", "text": "t"}, {"id": "1", "reference": "r"}):
        assert figure(
            "perplexity", pandas.DataFrame([score("causal-lm", row, answer, Evaluate()) for answer in answers])
        ) == pytest.approx(8)
    assert figure("perplexity", pandas.DataFrame({"logprob": [-1e9], "tokens": [1]})) == math.inf
    assert math.isnan(figure("perplexity", pandas.DataFrame({"logprob": [0.0], "tokens": [0]}))) and math.isnan(
        figure("perplexity", pandas.DataFrame([answered("a", "b")]))
    )


def test_a_preference_is_right_where_the_chosen_answer_is_likelier() -> None:
    likely = [
        Answer("yes", None, None, None, 0.1, 1, logprob=-1.0, scored_tokens=2, rejected_logprob=other)
        for other in (-3.0, -0.5, -1.0)
    ]
    rows = [score_answer("yes", answer, Evaluate()) for answer in likely]
    frame = pandas.DataFrame(rows)
    assert [row["preferred"] for row in rows] == [1, 0, 0], "a tie is no preference"
    assert figure("preference_accuracy", frame) == pytest.approx(1 / 3) and figure("exact_match", frame) == 1
    assert figure("preference_margin", frame) == pytest.approx((2 - 0.5 + 0) / 3) and figure(
        "perplexity", frame
    ) == pytest.approx(math.exp(0.5))


@pytest.mark.parametrize(
    ("answer", "exact", "token_f1"),
    [("Ada Lovelace", 1, 1), ("the Ada!", 1, 1), ("Ada King", 0, 2 / 3), ("Babbage", 0, 0), ("", 0, 0)],
)
def test_of_several_right_answers_the_one_that_is_met_best_counts(answer: str, exact: float, token_f1: float) -> None:
    said = Answer(answer, None, None, None, 0.1, 1)
    row = score_answer('{"any_of": ["Ada Lovelace", "Ada"]}', said, Evaluate(normalize="squad"))
    assert (row["exact_match"], row["token_f1"]) == (exact, pytest.approx(token_f1))
    assert row.keys() == score_answer("Ada", said, Evaluate()).keys()
    other = score_answer('{"any_of": "Ada"}', said, Evaluate())
    assert other["field_f1"] is not None, "any other object is held against the answer's fields"
