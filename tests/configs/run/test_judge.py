"""The judge's section: whom to ask, with which prompt, and how to read the answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from configs.run.judge import Judge

pytestmark = pytest.mark.unit
GOOD: dict[str, Any] = {
    "base_url": "http://127.0.0.1:8000/v1",
    "model": "m",
    "prompt": "{{ question }} {{ answer }} {{ reference }}",
    "scale": (1, 5),
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base_url": "http://judge.example/v1"}, "https, or http on this machine"),
        ({"base_url": "http://127.0.0.1.judge.example/v1"}, "https, or http on this machine"),
        ({"base_url": "https://user:secret@judge.example/v1"}, "without a name, password"),
        ({"base_url": "https://judge.example/v1?key=secret"}, "without a name, password"),
        ({"base_url": "ftp://judge.example"}, "an address like"),
        ({"prompt": "{{ question }}"}, "{{ answer }}"),
        ({"prompt": "{{ answer }} {{ label }}"}, "nothing but question, answer, reference"),
        ({"prompt": "{{ answer "}, "a Jinja template"),
        ({"scale": None}, "scale or choices"),
        ({"choices": {"yes": 1, "no": 0}}, "scale or choices"),
        ({"scale": (5, 1)}, "lowest score first"),
        ({"scale": None, "choices": {"yes": 1}}, "at least 2"),
        ({"scale": None, "choices": {"yes": 1, "Yes": 0}}, "differ in more than case"),
        ({"pairwise": True}, "no scale, choices or human with pairwise"),
        ({"pairwise": True, "scale": None}, "{{ first }} and {{ second }}"),
        ({"api_key_variable": "sk-secret"}, "match pattern"),
    ],
)
def test_a_judge_that_could_not_be_trusted_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        Judge.model_validate(GOOD | change)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1/", "http://localhost:1/v1", "http://[::1]:1/v1", "https://judge.example/v1"]
)
def test_a_judge_is_asked_in_the_clear_on_this_machine_only(url: str) -> None:
    assert Judge.model_validate(GOOD | {"base_url": url}).base_url == url.rstrip("/")
