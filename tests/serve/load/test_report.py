"""The page of a load test: self-contained, escaped, and its lines run where the figures say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.environment.load_test import LoadTest
from serve.load.figures import LoadRecord, Sample, steps_of, summarise
from serve.load.plots import HEIGHT, MOST_POINTS, WIDTH, cumulative, plot
from serve.load.report import describe_load, page
from tests.serve.load.test_figures import sample

pytestmark = pytest.mark.unit


def page_of(samples: list[Sample], release: str = "calls@sha256:abc", **settings: Any) -> str:
    chosen = LoadTest.model_validate(settings)
    record: LoadRecord = {
        "release": release,
        "settings": chosen.model_dump(mode="json"),
        "figures": summarise(samples, chosen),
        "steps": steps_of(samples, chosen),
    }
    return page(samples, record)


def test_nothing_is_fetched_and_every_tag_is_closed() -> None:
    text = page_of([sample(at=number, first=0.1 + number / 100) for number in range(30)], slo={"latency_ms": 400})
    assert not re.search(r"(?:src|href)=|@import|url\(", text) and "default-src 'none'" in text
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            open_tags.extend([] if tag in ("meta", "br") else [tag])

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attributes: object) -> None:
            pass

    Reader().feed(text)
    assert open_tags == [] and text.count("<figure") == 4 and "objective 400 ms" in text


def test_figures_stand_in_the_page_as_they_were_measured() -> None:
    text = page_of([sample(first=0.1, at=0.0), sample(first=0.3, seconds=0.7, at=0.3)], slo={"latency_ms": 600})
    assert re.search(r'time to first token</th><td class="number">200\.0</td>', text) and re.search(
        r'share of requests</th><td class="number">0\.5</td>', text
    )


def test_a_ramp_has_its_table_and_plots() -> None:
    samples = [sample(step=step, at=step) for step in (0, 1) for _ in range(3)]
    text = page_of(samples, ramp=[1, 2], slo={"latency_ms": 900})
    assert "Ramp: p95 by offered rate" in text and "knee, requests a second" in text and text.count("<figure") == 6


def test_texts_are_escaped_and_a_run_of_failures_has_a_page_too() -> None:
    text = page_of([sample(ok=False)], release="<b>@sha256:0")
    assert (
        "<b>" not in text
        and "&lt;b&gt;" in text
        and "<figure" not in text
        and 'error rate</th><td class="number">1</td>' in text
    )


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"users": 3}, "Closed loop: 3 users"),
        ({"rate": 2.5}, "2.5 requests a second"),
        ({"ramp": [1, 4]}, "1, 4 requests"),
        ({"trace": "t.jsonl"}, "trace t.jsonl"),
    ],
)
def test_the_page_says_which_kind_of_load_it_was(settings: dict[str, Any], word: str) -> None:
    assert word in describe_load(LoadTest.model_validate(settings))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=1000), st.booleans())
def test_every_mark_lies_in_the_box_and_a_page_stays_small(points: list[tuple[float, float]], dots: bool) -> None:
    found = plot("t", "x", "y", {"one": points, "none": []}, {"limit": 5.0}, dots=dots)
    assert found is not None and [line.name for line in found.lines] == ["one"]
    marks = found.lines[0].dots or [
        (float(x), float(y)) for x, y in (pair.split(",") for pair in found.lines[0].path.split())
    ]
    assert 1 <= len(marks) <= MOST_POINTS and all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in marks)
    assert all(0 <= at <= WIDTH for at, _ in found.across) and all(
        0 <= at <= HEIGHT for at, _ in [*found.up, *found.bounds]
    )


def test_a_cumulative_line_ends_at_all_requests() -> None:
    assert cumulative([0.3, 0.1]) == [(100, 50), (300, 100)] and plot("t", "x", "y", {"one": []}) is None
