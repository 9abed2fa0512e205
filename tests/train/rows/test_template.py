"""Columns renamed and a conversation made by the config's own template; checked before any row is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.errors import ConfigError, InputError
from configs.loader import load
from configs.rows.data import Data
from configs.rows.template import Template
from configs.run.config import RunConfig
from train.rows.template import make_reading
from train.sources.source import Fault

pytestmark = pytest.mark.unit
TEMPLATE = {"system": "Answer in {{ language }}.", "prompt": "Q: {{ question }}\n", "completion": "{{ answer }}"}
ROW = {"id": "r1", "language": "French", "question": "Two?", "answer": "Deux", "unused": None}


def reading(row: dict[str, Any], **data: Any) -> Any:
    return make_reading(Data.model_validate({"source": "files", "files": ["x.jsonl"]} | data))(row)


def test_columns_make_a_conversation() -> None:
    turns = [("system", "Answer in French."), ("user", "Q: Two?\n"), ("assistant", "Deux")]
    assert reading(ROW, template=TEMPLATE) == {
        "id": "r1",
        "messages": [{"role": role, "content": text} for role, text in turns],
    }


def test_without_chat_they_make_prompt_and_completion() -> None:
    template = {"prompt": "{{ question }}", "completion": "{{ answer }}", "chat": False}
    assert reading(ROW, template=template) == {"id": "r1", "prompt": "Two?", "completion": "Deux"}


def test_a_pair_gets_its_rejected_answer() -> None:
    found = reading(ROW, template=TEMPLATE | {"rejected": "{{ language }}"})
    assert found["rejected"] == "French" and found["messages"][-1]["content"] == "Deux"


def test_columns_are_renamed_before_the_template_sees_them() -> None:
    assert reading({"review": "x", "stars": 3}, columns={"text": "review", "label": "stars"}) == {
        "review": "x",
        "stars": 3,
        "text": "x",
        "label": 3,
    }
    assert (
        reading(ROW | {"frage": "Trois?"}, columns={"question": "frage"}, template=TEMPLATE)["messages"][1]["content"]
        == "Q: Trois?\n"
    )


@pytest.mark.parametrize("row", [{}, {"question": "x"}, ROW | {"answer": None}])
def test_a_row_without_a_column_says_which(row: dict[str, Any]) -> None:
    fault = reading(row, template=TEMPLATE)
    assert isinstance(fault, Fault) and fault.kind == "missing_field" and "answer" in fault.found


ASKED = "{{ instruction }}{% if input %} ({{ input }}){% endif %}"
OPTIONAL = [
    ASKED,
    "{{ instruction }}{% if input is not none and input %} ({{ input }}){% endif %}",
    "{{ instruction }}{% if input is defined and input %} ({{ input }}){% endif %}",
    "{{ instruction }}{% if input != none and input != '' %} ({{ input }}){% endif %}",
    "{{ instruction }}{{ ' (' + input + ')' if input }}",
    "{{ instruction }}{% if input | length %} ({{ input }}){% endif %}",
    "{{ instruction }}{% for line in input %}{{ ' (' if loop.first }}{{ line }}{{ ')' if loop.last }}{% endfor %}",
]


@pytest.mark.parametrize("prompt", OPTIONAL)
@pytest.mark.parametrize(
    ("more", "said"), [({"input": None}, ""), ({"input": ""}, ""), ({}, ""), ({"input": "x"}, " (x)")]
)
def test_a_part_is_left_out_where_its_column_has_no_value(prompt: str, more: dict[str, Any], said: str) -> None:
    found = reading(
        {"instruction": "Go", "answer": "y"} | more, template={"prompt": prompt, "completion": "{{ answer }}"}
    )
    assert found["messages"][0] == {"role": "user", "content": "Go" + said}


@pytest.mark.parametrize(
    "prompt", ["{{ input }}", "{{ 'a ' ~ input }}", "{{ input | trim }}", "{{ input.x }}", "{{ input + 'x' }}"]
)
def test_nothing_is_never_written(prompt: str) -> None:
    fault = reading({"input": None, "answer": "y"}, template={"prompt": prompt, "completion": "{{ answer }}"})
    assert isinstance(fault, Fault) and fault.found == "data.template.prompt: no value for column input"


def test_a_null_within_a_column_is_not_written_either() -> None:
    fault = reading({"a": {"b": None}}, template={"prompt": "{{ a.b }}", "completion": "{{ a }}"})
    assert isinstance(fault, Fault) and "prompt: null" in fault.found


def test_all_columns_without_a_value_are_named_at_once() -> None:
    fault = reading({"language": "x"}, template=TEMPLATE)
    assert isinstance(fault, Fault) and "question" in fault.found and "answer" in fault.found


@pytest.mark.parametrize(("system", "turns"), [("Be brief.", 3), ("", 2), (" \n", 2), (None, 2)])
def test_a_system_text_of_nothing_leaves_its_turn_out(system: str | None, turns: int) -> None:
    template = {"system": "{{ system }}", "prompt": "{{ question }}", "completion": "{{ answer }}"}
    row = {"system": system, "question": "a", "answer": "b"}
    assert len(reading(row, template=template)["messages"]) == turns
    assert (
        len(reading(row, template=template | {"system": "{% if system %}{{ system }}{% endif %}"})["messages"]) == turns
    )


def test_a_column_that_no_row_has_is_refused_although_nothing_is_written_of_it() -> None:
    read = make_reading(
        Data.model_validate(
            {
                "source": "files",
                "files": ["x.jsonl"],
                "template": {
                    "prompt": "{% if inptu %}{{ inptu }}{% endif %}{{ answer }}",
                    "completion": "{{ answer }}",
                },
            }
        )
    )
    assert isinstance(read({"input": "x", "answer": "y"}), dict)
    with pytest.raises(InputError, match="inptu, which no row has; found answer, input") as caught:
        read.finish()
    assert caught.value.hint == "write input"


def test_jinjas_own_functions_are_no_columns() -> None:
    template = {"prompt": "{% for n in range(2) %}{{ n }}{% endfor %}{{ a }}", "completion": "{{ a }}"}
    assert reading({"a": "x"}, template=template)["messages"][0]["content"] == "01x"


def test_a_row_without_a_renamed_column_says_which() -> None:
    fault = reading({"text": "x"}, columns={"label": "stars"})
    assert isinstance(fault, Fault) and "stars" in fault.expected and "text" in fault.found


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ question.no.such }}",
        "{{ question + 1 }}",
        "{{ 1 // (question | length - 4) }}",
        "{{ question.__class__.__mro__ }}",
    ],
)
def test_a_template_that_fails_on_a_row_is_that_rows_fault(prompt: str) -> None:
    fault = reading(ROW, template=TEMPLATE | {"prompt": prompt})
    assert isinstance(fault, Fault) and fault.kind == "missing_field"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prompt": "{{ question"}, "a Jinja template: its line 1 says"),
        ({"completion": "yes\n{% if %}"}, "its line 2"),
        ({"completion": "always yes"}, "a column in completion"),
        ({"prompt": "{{ 'question' }}"}, "a column in prompt"),
        ({"chat": False}, "no system text with chat false"),
    ],
)
def test_a_template_that_cannot_be_right_is_refused_before_any_row_is_read(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Template.model_validate(TEMPLATE | changes)


def test_check_names_the_line_of_the_bad_template(checkout: Path) -> None:
    Path("rows.jsonl").touch()
    lines = [
        "name: x",
        "task: causal-lm",
        "base: {package: p}",
        "data:",
        "  source: files",
        "  files: [rows.jsonl]",
        "  template:",
    ]
    lines += [
        '    prompt: "{{ question"',
        '    completion: "{{ answer }}"',
        "train: {max_steps: 1}",
        "gate: rows.jsonl",
    ]
    Path("x.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        load(Path("x.yaml"), RunConfig)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [(8, "data.template.prompt")]


@given(
    st.dictionaries(
        st.sampled_from(["question", "answer", "language", "id"]),
        st.none() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_no_row_whatever_raises(row: dict[str, Any]) -> None:
    assert isinstance(reading(row, template=TEMPLATE), dict | Fault)
