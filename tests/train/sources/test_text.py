"""Text in every encoding that shows itself, and the line and byte of one that does not."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sources.source import Fault
from train.sources.text import encoding_of, not_utf8, open_text

pytestmark = pytest.mark.unit
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=40)
MARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


@given(TEXTS, st.sampled_from(list(MARKED)))
def test_text_with_a_mark_is_what_was_written(text: str, encoding: str) -> None:
    found, stream = open_text(io.BytesIO(text.encode(encoding)), newline="\n")
    assert (found, stream.read()) == (MARKED[encoding], text)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_without_a_mark_the_zeros_tell(encoding: str) -> None:
    assert encoding_of('{"text": "Grüße"}'.encode(encoding)) == (encoding, 0)


@given(TEXTS)
def test_plain_utf_8_is_read_as_such_and_nothing_is_wrong_with_it(text: str) -> None:
    _, stream = open_text(io.BytesIO(("a " + text).encode()), newline="\n")
    assert stream.read() == "a " + text and not_utf8(text) is None


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1250"])
def test_bytes_of_another_encoding_are_said_with_what_they_may_be(encoding: str) -> None:
    _, stream = open_text(io.BytesIO("sehr schön".encode(encoding)), newline="\n")
    fault = not_utf8(stream.read())
    assert isinstance(fault, Fault) and fault.kind == "unreadable"
    assert "0xf6" in fault.found and "schön" in fault.found and "iconv" in fault.expected


def test_what_is_longer_than_the_first_look_is_read_on() -> None:
    text = "ä" * 100_000 + "\n" + "b" * 100_000
    assert open_text(io.BytesIO(text.encode()), newline="\n")[1].read() == text
