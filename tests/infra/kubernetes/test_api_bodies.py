"""What is sent to the API server is JSON, and where it is read as YAML the same."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from infra.kubernetes.api import body_of

pytestmark = pytest.mark.unit


@given(st.dictionaries(st.text(st.characters(codec="utf8")), st.text(st.characters(codec="utf8")) | st.integers()))
@example({"model": "😀 $(HOME) \\ud83d"})
@example({"model": "\x85\x7f\ufeff\u2028"})
def test_a_body_is_read_alike_as_json_and_as_yaml(content: dict[str, str | int]) -> None:
    body = body_of(content)
    assert json.loads(body) == content == yaml.safe_load(body)
