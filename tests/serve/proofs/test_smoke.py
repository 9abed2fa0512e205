"""The application's own requests: what holds is counted, what does not is named, line by line, with what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.smoke import Expectation
from configs.errors import ConfigError, RefusedError
from serve.proofs.smoke import run_smoke, text_of, unmet
from tests.support.fake_openai import Fake, serving

pytestmark = pytest.mark.unit
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def write(folder: Path, *requests: dict[str, Any]) -> Path:
    (folder / "smoke.yaml").write_text(json.dumps({"requests": requests}))  # JSON is YAML
    return folder / "smoke.yaml"


def test_what_is_met_is_counted_and_the_model_is_filled_in(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"body": CHAT, "expect": {"equals": " one two three", "max_seconds": 60}},
        {"body": CHAT | {"stream": True}, "expect": {"regex": "three$"}},
        {
            "path": "/classify",
            "body": {"input": ["a"]},
            "expect": {"json_schema": {"type": "object", "required": ["data"]}},
        },
    )
    with serving(Fake()) as fake:
        facts = run_smoke(path, fake.base_url, "assistant")
    assert facts["smoke_requests"] == 3 and facts["slowest_seconds"] > 0
    assert [(path, body["model"]) for path, body in fake.bodies] == [("/v1/chat/completions", "assistant")] * 2 + [
        ("/classify", "assistant")
    ]


def test_every_request_that_fails_is_named_and_the_good_ones_are_not(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"name": "greets", "body": CHAT, "expect": {"contains": "hello"}},
        {"name": "fine", "body": CHAT},
        {"body": CHAT, "expect": {"regex": r"^\d+$", "max_seconds": 1e-9}},
        {"name": "refuses", "body": CHAT, "expect": {"status": 400}},
    )
    with serving(Fake()) as fake, pytest.raises(RefusedError) as refusal:
        run_smoke(path, fake.base_url, "m")
    text = refusal.value.message
    assert (
        "of 4 requests" in text
        and "greets: found 'one two three', expected it to contain 'hello'" in text
        and "fine" not in text
    )
    assert (
        "request 3 (/v1/chat/completions): took " in text
        and r"to match '^\\d+$'" in text
        and "refuses: found status 200" in text
    )


def test_a_server_that_does_not_answer_fails_every_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "one", "body": CHAT}, {"name": "two", "body": CHAT})
    with pytest.raises(RefusedError, match=r"one: no answer \(ConnectError\)\n  two: no answer"):
        run_smoke(path, "http://127.0.0.1:9", "m")


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"body": CHAT, "expect": {"regex": "("}}, "regular expression"),
        ({"body": CHAT, "expect": {"json_schema": {"type": 3}}}, "JSON Schema"),
        ({"path": "no", "body": {}}, "path"),
    ],
)
def test_a_file_that_could_prove_nothing_is_refused_before_anything_is_asked(
    tmp_path: Path, request_: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        run_smoke(write(tmp_path, request_), "http://127.0.0.1:9", "m")


def reply(message: dict[str, Any]) -> str:
    return json.dumps({"choices": [{"message": message}]})


def test_the_text_of_an_answer_is_its_content_or_its_tool_calls_arguments() -> None:
    assert text_of(reply({"content": "hi"})) == "hi" == text_of(json.dumps({"choices": [{"text": "hi"}]}))
    assert (
        text_of(reply({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}))
        == '{"a": 1}'
    )
    events: list[Any] = [{"choices": [{"delta": {"content": part}}]} for part in "hi"] + [{"choices": [], "usage": {}}]
    assert text_of("".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n") == "hi"
    assert text_of('{"data": []}') == '{"data": []}' and text_of("plain") == "plain"


def test_a_schema_says_where_it_is_broken() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]}
    expect = Expectation(json_schema=schema)
    assert unmet(expect, 200, reply({"content": '{"a": 1, "b": 2}'}), 1) == []
    assert [problem.split(":")[0] for problem in unmet(expect, 200, reply({"content": '{"a": "x"}'}), 1)] == [
        "found $",
        "found $.a",
    ]
    assert unmet(expect, 200, reply({"content": "no"}), 1) == ["found 'no', expected JSON"]


@given(st.text(max_size=50), st.text(min_size=1, max_size=10))
def test_contains_and_equals_hold_exactly_when_they_do(text: str, part: str) -> None:
    body = reply({"content": text})
    assert (unmet(Expectation(contains=part), 200, body, 0) == []) is (part in text)
    assert (unmet(Expectation(equals=part), 200, body, 0) == []) is (part.strip() == text.strip())
    assert unmet(Expectation(status=201), 200, body, 0) and unmet(Expectation(), 200, body, 0) == []
