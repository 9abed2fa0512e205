"""What may be asked for: a reference, a digest or the headers of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from infra.lineage.trace import Asked, choose, identify

pytestmark = pytest.mark.unit
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
DIGESTS = st.text("0123456789abcdef", min_size=12, max_size=64)


@given(NAMES, DIGESTS, st.sampled_from(["{name}@sha256:{digest}", "{name}@{digest}", " {name}@sha256:{digest}\n"]))
def test_a_reference_in_any_form_is_understood(name: str, digest: str, form: str) -> None:
    assert identify(form.format(name=name, digest=digest)) == Asked(name, digest, None)


@given(
    DIGESTS,
    st.sampled_from(["x-tunegate-release", "X-Tunegate-Release", "X-TUNEGATE-RELEASE"]),
    st.sampled_from(["blue", "green"]),
    st.booleans(),
)
def test_the_headers_of_an_answer_are_understood(digest: str, header: str, slot: str, first: bool) -> None:
    lines = [f"{header}: sha256:{digest}", f"x-tunegate-slot: {slot}"]
    text = (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        + "\r\n".join(lines if first else lines[::-1])
        + '\r\n\r\n{"id": "x"}'
    )
    assert identify(text) == Asked(None, digest, slot)


@given(DIGESTS)
def test_a_digest_alone_is_understood(digest: str) -> None:
    assert identify(digest) == identify(f"sha256:{digest}") == Asked(None, digest, None)


@pytest.mark.parametrize(
    "text", ["", "calls", "12345678901", "calls@sha256:xyz", "x-tunegate-release:", "f" * 65, "HTTP/1.1 404\r\n\r\n"]
)
def test_what_names_no_release_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match=r"found no digest(.|\n)*x-tunegate-release"):
        identify(text)


ONE, TWIN = f"calls@sha256:{'a' * 64}", f"smoke@sha256:{'a' * 12}{'b' * 52}"


def test_one_release_is_chosen_by_name_or_by_more_digits() -> None:
    known = [ONE, TWIN]
    assert choose(Asked("calls", "a" * 12, None), known) == choose(Asked(None, "a" * 13, None), known) == ONE
    with pytest.raises(InputError, match=f"2 releases fit, expected one:\n  {ONE}\n  {TWIN}"):
        choose(Asked(None, "a" * 12, None), known)
    with pytest.raises(InputError, match="found no such release"):
        choose(Asked("ner", "a" * 12, None), known)
