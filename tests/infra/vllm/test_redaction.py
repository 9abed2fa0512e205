"""Redaction: what names a person or opens a door goes, what does not stays, and no text takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vllm.redaction import compiled, is_card, redact, redact_text

pytestmark = pytest.mark.unit
PATTERNS = compiled({})


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to ann.lee+x@mail.example.org.", "write to [email]."),
        ("two: a@b.de,c@d.fr", "two: [email],[email]"),
        ("call +49 30 1234 5678 now", "call [phone] now"),
        ("(030) 123-45-67", "[phone]"),
        ("+14155552671", "[phone]"),
        ("card 4111 1111 1111 1111!", "card [card]!"),
        ("5500-0000-0000-0004", "[card]"),
        ("key sk-abcdefghijklmnop1234", "key [key]"),
        ("Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: [key]"),
        ("ghp_" + "a" * 36, "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[key]"),
    ],
)
def test_what_names_a_person_or_opens_a_door_is_taken_out(text: str, redacted: str) -> None:
    assert redact_text(text, PATTERNS) == (redacted, redacted.count("["))


@pytest.mark.parametrize(
    "text",
    [
        "on 2026-11-23 at 10:15",
        "1234567890123",
        "total 12,345.67 euros",
        "version 1.2.3",
        "a @ b",
        "4111111111111112",
        "sk-short",
        "the bearer of news",
        "x" * 200,
    ],
)
def test_plain_texts_stay(text: str) -> None:
    assert redact_text(text, PATTERNS) == (text, 0)


@pytest.mark.parametrize(("digits", "valid"), [("4111111111111111", True), ("4111111111111112", False), ("79927398713", True), ("79927398710", False)])
def test_the_check_digit_is_luhns(digits: str, valid: bool) -> None:
    assert is_card(digits) is valid


def test_every_text_of_a_value_is_read_and_its_shape_stays() -> None:
    value = {"messages": [{"content": [{"text": "a@b.de"}, 3, None]}], "n": 4.5, "ok": True}
    assert redact(value, PATTERNS) == ({"messages": [{"content": [{"text": "[email]"}, 3, None]}], "n": 4.5, "ok": True}, 1)
    assert redact_text("ticket T-123", compiled({"ticket": r"T-\d+"})) == ("ticket [ticket]", 1)
    nested: list[object] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(ValueError, match="too deep"):
        redact(nested, PATTERNS)


@pytest.mark.parametrize("part", ["a", "1", "1 ", "a.", "@", "-", "eyJa", "+", "a@", "(", "sk-", "-----BEGIN PRIVATE KEY-----"])
def test_a_long_text_without_an_end_is_read_in_one_go(part: str) -> None:
    """A pattern that goes back over what it has read would take hours here."""
    text = part * (200_000 // len(part))
    assert len(redact_text(text, PATTERNS)[0]) <= len(text)


@given(st.text(), st.text())
def test_an_address_is_found_wherever_it_stands(before: str, after: str) -> None:
    text, found = redact_text(f"{before} ann@example.org {after}", PATTERNS)
    assert "ann@example.org" not in text and found >= 1
