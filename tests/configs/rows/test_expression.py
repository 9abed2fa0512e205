"""Expressions read a row's values and can do nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.rows.expression import compiled, names_in

pytestmark = pytest.mark.unit


def test_names_are_those_that_an_expression_reads() -> None:
    assert names_in("length < 20 and (topic in ('a', 'b') or not label[0] == \"x\")") == ["label", "length", "topic"]


@pytest.mark.parametrize("expression", ["", "x =", "f(x)", "x.y", "[i for i in x]", "lambda: 1", "x := 1", "{1: x}"])
def test_what_is_no_plain_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        names_in(expression)


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_one_compiled_expression_is_asked_of_many_rows(one: int, other: int) -> None:
    holds = compiled("a < b and not a == 0")
    for a, b in ((one, other), (other, one)):
        assert holds({"a": a, "b": b}) == (a < b and a != 0)


def test_a_name_that_is_not_there_and_a_type_that_does_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="'b' is not defined"):
        compiled("a < b")({"a": 1})
    with pytest.raises(TypeError):
        compiled("a < 1")({"a": "x"})
