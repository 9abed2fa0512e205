"""What is written is what is read, by a reader of YAML 1.1 and by one of 1.2."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from infra.files.yaml_text import as_documents, as_yaml

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(codec="utf8")) | st.sampled_from(
    ["yes", "NO", "on", "~", "null", "1e3", "0x1f", "0o17", "1_000", "12:30:45", "2026-11-28", ".inf", "=", "<<", "- a"]
)
THING = st.dictionaries(
    TEXT, st.recursive(TEXT | st.integers() | st.booleans(), lambda one: st.lists(one) | st.dictionaries(TEXT, one))
)


@given(THING)
@example({"a": "one\n  two\n"})
@example({"a": "x\n" * 3})
@example({"digest": "12e45"})
@example({"a": "\n a\n"})
def test_every_reader_reads_what_was_written(thing: dict[str, Any]) -> None:
    text = as_yaml(thing)
    assert yaml.safe_load(text) == thing
    assert YAML(typ="safe", pure=True).load(text) == thing
    assert as_yaml(thing) == text and text.isascii()


def test_a_digest_of_digits_and_one_e_stays_a_text_for_a_reader_of_yaml_1_2() -> None:
    assert as_yaml({"digest": "12e45"}) == 'digest: "12e45"\n'


def test_a_value_that_stands_twice_is_written_twice() -> None:
    same = {"a": ["b"]}
    assert as_documents([{"one": same, "other": same}, {"c": 1}]) == (
        "---\none:\n  a:\n  - b\nother:\n  a:\n  - b\n---\nc: 1\n"
    )


def test_a_text_of_lines_stays_readable() -> None:
    assert as_yaml({"file": "a: 1\nb:\n  c: 2\n"}) == "file: |\n  a: 1\n  b:\n    c: 2\n"
