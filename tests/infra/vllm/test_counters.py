"""vLLM's counters: read whole or not at all, and a window is what came between two readings, restarts included."""

from __future__ import annotations

import math

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.vllm.counters import Counted, Histogram, between, parse, read_metrics, read_progress
from tests.support.fake_openai import Fake, histogram, serving

pytestmark = pytest.mark.unit
EDGES = [0.1, 0.5, 1.0]


def test_a_real_page_of_vllm_is_read() -> None:
    """Lines as vLLM 0.32 writes them, of two engines."""
    text = "".join(
        f"""vllm:time_to_first_token_seconds_bucket{{engine="{engine}",le="0.1",model_name="m"}} 2.0
vllm:time_to_first_token_seconds_bucket{{engine="{engine}",le="0.5",model_name="m"}} 5.0
vllm:time_to_first_token_seconds_bucket{{engine="{engine}",le="+Inf",model_name="m"}} 6.0
vllm:time_to_first_token_seconds_count{{engine="{engine}",model_name="m"}} 6.0
vllm:time_to_first_token_seconds_sum{{engine="{engine}",model_name="m"}} 1.5
vllm:request_success_total{{engine="{engine}",finished_reason="stop",model_name="m"}} 4.0
vllm:request_success_total{{engine="{engine}",finished_reason="length",model_name="m"}} 2.0
vllm:request_success_total{{engine="{engine}",finished_reason="abort",model_name="m"}} 9.0
"""
        for engine in (0, 1)
    )
    found = Counted(**parse("# HELP x y\n" + text))
    assert (
        found.first == Histogram(edges=[0.1, 0.5], counts=[4, 6, 2], total=3.0)
        and found.first.n == 12
        and found.first.at_most(0.1) == 4
    )
    assert (found.answers, found.truncated, found.per_token) == (12, 4, None)


@pytest.mark.parametrize("text", ["", "<html>", "vllm:request_success_total{ 3"])
def test_what_is_no_prometheus_text_gives_no_figure(text: str) -> None:
    assert Counted(**parse(text)) == Counted() and Counted(**parse(text)).answers is None


def test_a_server_that_does_not_answer_is_not_judged() -> None:
    with serving(Fake()) as fake:
        fake.lengths += [1, 3]
        assert read_metrics(fake.base_url)["lengths"].counts[:3] == [1, 0, 1] and read_progress(fake.base_url) == 2
    assert read_metrics(fake.base_url) == {} and read_progress(fake.base_url) is None


def test_a_server_that_writes_a_long_answer_gets_on_though_none_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    page = """# HELP vllm:generation_tokens_total Number of generation tokens processed.
vllm:generation_tokens_total{engine="0",model_name="m"} %d.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 7.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 0.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 4.0
vllm:num_requests_running{engine="0",model_name="m"} 9.0
"""
    seen = []
    for tokens in (0, 1, 5):
        reply = httpx.Response(200, text=page % tokens)
        monkeypatch.setattr(httpx, "get", lambda url, reply=reply, **_: reply)
        seen.append(read_progress("http://server"))
    assert seen == [7, 8, 12]


@given(st.lists(st.floats(0, 3), max_size=30), st.lists(st.floats(0, 3), max_size=30))
def test_a_window_holds_exactly_what_came_between(before: list[float], after: list[float]) -> None:
    def read(values: list[float]) -> Counted:
        server = parse(histogram("vllm:time_to_first_token_seconds", values, tuple(EDGES)))
        return Counted(requests=len(values), **(server | {"answers": len(values)}))

    window = between(read(before), read(before + after))
    assert window.first is not None and window.requests == window.answers == window.first.n == len(after)
    assert window.first.total == pytest.approx(sum(after), abs=1e-6) and window.first.at_most(0.5) == sum(
        one <= 0.5 for one in after
    )


def test_a_server_that_began_anew_is_counted_from_its_beginning() -> None:
    early = Counted(requests=9, failed=1, answers=8, first=Histogram(edges=EDGES, counts=[5, 3, 0, 0], total=2.0))
    late = Counted(requests=12, failed=2, answers=3, first=Histogram(edges=EDGES, counts=[1, 1, 1, 0], total=1.0))
    assert between(early, late) == late.model_copy(update={"requests": 3, "failed": 1})
    restarted_router = between(early, late.model_copy(update={"requests": 2, "failed": 0}))
    assert (restarted_router.requests, restarted_router.failed) == (2, 0)
    other_edges = late.model_copy(update={"answers": 20, "first": Histogram(edges=[1.0], counts=[9, 9], total=9.0)})
    assert between(early, other_edges).first == other_edges.first and between(early, other_edges).answers == 20


def test_a_reading_that_failed_is_no_beginning_and_no_end() -> None:
    """A server too busy to be read has not begun anew: what its proofs asked of it would be taken for traffic."""
    read, unread = (
        Counted(requests=9, answers=8, first=Histogram(edges=EDGES, counts=[5, 3, 0, 0], total=2.0)),
        Counted(requests=4),
    )
    assert (
        between(unread, read) == Counted(requests=5)
        and between(unread, read.model_copy(update={"requests": 4})) == Counted()
    )
    assert between(read, Counted(requests=12)) == Counted(requests=3)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=60), st.floats(0, 1))
@example([0.5, 0.5, 0.5], 1.0)
def test_a_quantile_lies_in_the_bucket_that_holds_it(values: list[float], share: float) -> None:
    lows = [0.0, *EDGES]
    counts = [sum(low < one <= high for one in values) for low, high in zip(lows, [*EDGES, 9e9], strict=True)]
    found = Histogram(edges=EDGES, counts=counts, total=sum(values)).quantile(share)
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]
    assert found is not None and max(low for low in lows if low < exact) <= found <= min(
        edge for edge in EDGES if edge >= exact
    )


def test_a_quantile_of_nothing_is_none_and_one_above_all_edges_is_the_highest() -> None:
    assert Histogram(edges=EDGES, counts=[0, 0, 0, 0], total=0).quantile(0.5) is None
    assert Histogram(edges=EDGES, counts=[1, 0, 0, 9], total=99).quantile(0.95) == 1.0
    assert Histogram(edges=EDGES, counts=[0, 4, 0, 0], total=1).quantile(0.5) == pytest.approx(0.3)
