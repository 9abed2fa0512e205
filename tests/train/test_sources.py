"""The real labelled sets, and every way in which a file of one's own may be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ConfigError, InputError
from eval.calls import match_call
from train import sources
from train.sources import choose_arguments, is_answerable, parse_row, read_bfcl, read_jsonl, read_sentiment, render_call, signature

pytestmark = pytest.mark.unit
CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
LABELLED = {"text": "a fine film", "label": "good"}
KEYS = st.sampled_from(["messages", "role", "content", "text", "label", "reference", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def bfcl() -> sources.Source:
    return read_bfcl()


def test_every_gold_call_is_right_by_the_evaluations_own_match(bfcl: sources.Source) -> None:
    """What training teaches, evaluation must accept: else no model could ever score."""
    matches = [match_call(row["messages"][-1]["content"], row["reference"]) for row in bfcl.rows]
    wrong = [row["id"] for row, match in zip(bfcl.rows, matches, strict=True) if not match.exact_match]
    assert wrong == []
    assert all(match.valid_json for match in matches)


def test_bfcl_says_what_it_is_and_what_it_left_out(bfcl: sources.Source) -> None:
    assert len(bfcl.rows) + bfcl.left_out["no_accepted_answer"] == 658, "400 simple and 258 live simple questions"
    assert len({row["id"] for row in bfcl.rows}) == len(bfcl.rows)
    assert bfcl.licence == "Apache-2.0" and "bfcl-eval 2026" in bfcl.name


def test_a_chat_row_ends_with_the_answer_and_starts_with_the_signature(bfcl: sources.Source) -> None:
    for row in bfcl.rows:
        roles = [turn["role"] for turn in row["messages"]]
        assert roles[0] == "system" and roles[-1] == "assistant" and "user" in roles
        assert json.loads(row["messages"][-1]["content"])["name"] + "(" in row["messages"][0]["content"]


def test_bfcl_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise sources.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sources.metadata, "distribution", missing)
    with pytest.raises(InputError, match="bfcl-eval is not installed") as caught:
        read_bfcl()
    assert "make setup" in str(caught.value)


def test_a_signature_is_short_and_says_what_may_be_left_out() -> None:
    properties = {
        "base": {"type": "integer", "description": "long words"},
        "unit": {"type": "string", "enum": ["cm", "m"]},
        "sides": {"type": "array", "items": {"type": "float"}},
    }
    function = {"name": "area", "parameters": {"type": "dict", "properties": properties, "required": ["base"]}}
    assert signature(function) == "area(base: integer, unit?: cm|m, sides?: array[float])"


def test_the_first_accepted_value_is_taught_and_what_may_be_omitted_is_omitted() -> None:
    accepted: dict[str, list[Any]] = {"a": [1, 2], "b": ["", "x"], "c": [{"k": [3, 4], "l": [5, ""]}], "d": [[{"m": ["n"]}]]}
    assert choose_arguments(accepted) == {"a": 1, "c": {"k": 3}, "d": [{"m": "n"}]}


@pytest.mark.parametrize(
    ("gold", "answerable"),
    [({"f": {"a": [1]}}, True), ({"f": {"a": []}}, False), (None, False), ({"f": {}}, True), ({"f": {"a": [""]}}, True)],
)
def test_an_argument_that_accepts_nothing_makes_a_row_unanswerable(gold: Any, answerable: bool) -> None:
    assert is_answerable(gold) is answerable


def test_a_questions_own_system_turn_is_kept_before_the_instruction() -> None:
    function = {"name": "f", "parameters": {"properties": {}}}
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."}]
    row = render_call({"id": "x", "question": [turns], "function": [function]}, {"f": {}})
    assert row["messages"][0]["content"] == f"Be brief.\n{sources.INSTRUCTION}\nf()"
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][-1]["content"] == '{"name": "f", "arguments": {}}'


def test_sentiment_holds_three_thousand_sentences_of_both_labels() -> None:
    found = read_sentiment()
    labels = [row["label"] for row in found.rows]
    assert len(found.rows) == 3000 and labels.count("positive") == labels.count("negative") == 1500
    assert len({row["id"] for row in found.rows}) == 3000 and all(row["text"] for row in found.rows)


def test_the_environment_says_where_node_modules_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures = tmp_path / "sentiment" / "test" / "fixtures"
    fixtures.mkdir(parents=True)
    (tmp_path / "sentiment" / "package.json").write_text('{"version": "9"}')
    for name in sources.SENTIMENT_FILES:
        (fixtures / name).write_text('[{"text": " so so ", "class": 1}]')
    monkeypatch.setenv("TUNEGATE_NODE_MODULES", str(tmp_path))
    found = read_sentiment()
    assert found.name.startswith("npm sentiment 9")
    assert found.rows[0] == {"id": "amazon-0", "text": "so so", "label": "positive"}


@pytest.mark.parametrize("text", ["{}", "[]", "not json"])
def test_a_broken_sentiment_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "package.json").write_text(text)
    monkeypatch.setenv("TUNEGATE_NODE_MODULES", str(tmp_path))
    with pytest.raises(InputError, match="make setup"):
        read_sentiment()


def test_lines_of_ones_own_get_an_id_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(LABELLED) + "\n\n" + json.dumps(LABELLED | {"text": "zwölf"}, ensure_ascii=False) + "\n", encoding="utf8")
    assert read_jsonl([str(path)], "sequence-classification") == [LABELLED | {"id": "mine-1"}, {"text": "zwölf", "label": "good", "id": "mine-3"}]


def test_a_chat_row_without_reference_is_marked_by_its_answer() -> None:
    assert parse_row(json.dumps(CHAT), "causal-lm") == CHAT | {"reference": "4"}
    structured = parse_row(json.dumps(CHAT | {"reference": {"name": "f", "accepted": {}}}), "causal-lm")
    assert isinstance(structured, dict) and json.loads(structured["reference"]) == {"name": "f", "accepted": {}}


def test_every_bad_line_of_every_file_is_named_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"text": "x"}\n' + json.dumps(LABELLED) + "\n{oops\n")
    two.write_text("[]\n")
    with pytest.raises(ConfigError) as caught:
        read_jsonl([str(one), str(two)], "sequence-classification")
    places = [(Path(problem.file).name, problem.line) for problem in caught.value.problems]
    assert places == [("one.jsonl", 1), ("one.jsonl", 3), ("two.jsonl", 1)]


def turns(*roles: str, content: str = "x") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role in roles]}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"messages": "hello"},
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": 3}]},
        turns("user"),
        turns("assistant"),
        turns("assistant", "user"),
        turns("user", "tool", "assistant"),
        turns("user", "assistant", content=" "),
        turns("user", "assistant") | {"label": "x"},
    ],
)
def test_a_wrong_conversation_is_refused_with_what_was_expected(found: dict[str, Any]) -> None:
    answer = parse_row(json.dumps(found), "causal-lm")
    assert isinstance(answer, tuple) and all(answer)


@pytest.mark.parametrize("found", [{"text": "x"}, {"text": "", "label": "a"}, {"text": "x", "label": " "}, {"text": "x", "label": 1}, LABELLED | {"more": 1}])
def test_a_wrong_labelled_row_is_refused(found: dict[str, Any]) -> None:
    assert isinstance(parse_row(json.dumps(found), "sequence-classification"), tuple)


@given(st.text() | JSON.map(json.dumps), st.sampled_from(["causal-lm", "sequence-classification"]))
def test_no_line_whatever_raises(line: str, task: Any) -> None:
    found = parse_row(line, task)
    assert isinstance(found, dict) or (len(found) == 2 and all(isinstance(part, str) for part in found))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="UTF-8"):
        read_jsonl([str(path)], "causal-lm")
