from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.calls import match_call
from eval.statistics import compare, newcombe_interval

pytestmark = pytest.mark.unit
GOLD = '{"name": "f", "accepted": {"a": [1], "b": ["New York", ""]}}'


@pytest.mark.parametrize(
    ("answer", "exact"),
    [('{"name":"f","arguments":{"a":1.0,"b":"new-york"}}', 1), ("f(a=1)", 1), ("f(a=2)", 0), ("f(a=1, c=2)", 0),
     ("g(a=1)", 0), ('{"name":"f","arguments":{"a":true}}', 0)],
)
def test_call_match(answer: str, exact: float) -> None:
    assert match_call(answer, GOLD).exact_match == exact


@given(st.text())
def test_garbage_never_raises(text: str) -> None:
    match_call(text, GOLD)


def test_newcombe_published_example() -> None:
    """Newcombe 1998, table II: 36, 12, 2, 0 of 50."""
    assert newcombe_interval(36, 12, 2, 0, 0.95) == pytest.approx((0.0569, 0.3404), abs=2e-4)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_interval_holds_the_difference_and_mirrors(pairs: list[tuple[float, float]]) -> None:
    one, other = ({str(i): pair[k] for i, pair in enumerate(pairs)} for k in (0, 1))
    forward, back = compare(one, other, 0.95), compare(other, one, 0.95)
    assert -1 <= forward.low <= forward.difference + 1e-9 and forward.difference - 1e-9 <= forward.high <= 1
    assert forward.low == pytest.approx(-back.high) and forward.p_value == back.p_value
