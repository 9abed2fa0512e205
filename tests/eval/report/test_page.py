"""The page as a parser reads it: nothing is fetched, whatever the texts are, and every part is there when there is
something to say."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.verdict import RuleResult, Verdict
from eval.report.history import Point
from eval.report.page import LONGEST, MOST_FLIPS, beside_parent, write_page
from eval.report.since import Difference
from eval.report.summary import Background
from eval.rules.evidence import Evidence, Measured
from tests.support import judged

pytestmark = pytest.mark.unit
VOID = {"meta", "input"}
FETCHING = {
    "link",
    "img",
    "image",
    "iframe",
    "object",
    "embed",
    "base",
    "audio",
    "video",
    "source",
    "form",
    "use",
    "foreignobject",
}


class Parsed(HTMLParser):
    """Tags with their attributes, ids, visible text, and whether every tag is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.balanced = True
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] not in ("script", "style") else ""


def background(questions: dict[str, str] | None = None, text: str = "x") -> Background:
    points = [Point(f"sentiment@sha256:{letter * 64}", "2026-11-01", "pass", 0.8, 0.7, 0.9, None) for letter in "de"]
    differences = [Difference("config", text, "1", text)] * 12
    return Background({"Git revision": "abc"}, questions or {}, differences, points, f"gate.yaml; {text}", True)


def page(
    verdict: Verdict | None = None, evidence: Evidence | None = None, questions: dict[str, str] | None = None
) -> Parsed:
    return Parsed(write_page(verdict or judged.verdict(), evidence or judged.evidence(), background(questions)))


def headings(parsed: Parsed) -> list[str]:
    return [str(attributes["id"]) for tag, attributes in parsed.tags if tag == "h2"]


def test_every_part_is_there_in_the_order_of_reading() -> None:
    found = page()
    assert headings(found) == [
        "decided",
        "changed",
        "since",
        "trend",
        "rules",
        "slices",
        "flipped",
        "labels",
        "calibrated",
        "behaviour",
        "quantized",
        "origin",
    ]
    assert found.balanced and found.open == []
    targets = [str(attributes["href"]).removeprefix("#") for tag, attributes in found.tags if tag == "a"]
    assert targets == headings(found)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len({*ids})


def test_parts_with_nothing_to_say_are_left_out() -> None:
    verdict = Verdict(release=judged.RELEASE, outcome="inconclusive", results=[])
    empty = Parsed(write_page(verdict, Evidence(judged.RELEASE, None), Background()))
    assert headings(empty) == ["origin"] and empty.balanced
    text = page(evidence=replace(judged.evidence(), references={}))
    assert "flipped" not in headings(text) and "slices" in headings(text)
    same = Background(champion_here=True)
    assert "are the champion's" in Parsed(write_page(judged.verdict(), judged.evidence(), same)).text


def test_nothing_is_fetched() -> None:
    found = page()
    policy = next(
        attributes["content"]
        for tag, attributes in found.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert not {tag for tag, _ in found.tags} & FETCHING
    assert all(
        str(attributes[name]).startswith("#")
        for _, attributes in found.tags
        for name in ("src", "href", "xlink:href", "action")
        if name in attributes
    )
    text = write_page(judged.verdict(), judged.evidence(), Background())
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


NASTY = st.text(
    st.characters(codec="utf-8") | st.sampled_from("<>&\"'/= \n\u202e\x00"), min_size=1, max_size=30
) | st.just(judged.HOSTILE)


@settings(max_examples=30)
@given(NASTY)
def test_no_text_becomes_markup(text: str) -> None:
    frame = judged.predictions(1, 0.9, n=20)
    changed = frame.assign(
        gold=text,
        answer=text,
        id=[f"{text}{number}" for number in range(20)],
        slices=pandas.Series([[text]] * 20),
        correct=0.0,
    )
    record: Any = {
        "metrics": {"accuracy": 0.5},
        "cost": {text: 1.0},
        "classes": {text: {"n": 20, "recall": 0.5}},
        "slices": {text: {"n": 20, "accuracy": 0.5}},
        "behaviour": {text: {**judged.BEHAVIOUR["names"], "groups": {text: {"n": 1}}}},
    }
    evidence = Evidence(
        judged.RELEASE,
        Measured(record, frame=changed),
        text,
        {"champion": Measured(record, frame=changed.assign(correct=1.0))},
    )
    result = RuleResult(
        rule=text,
        outcome="fail",
        sentence=text,
        evidence={"value": 0.5, "bound": 0.6, "method": text, "slices": [{"name": text, "value": 0.1}]},
    )
    verdict = Verdict(
        release=judged.RELEASE,
        champion=text,
        outcome="fail",
        results=[result],
        changes={text: {"release": 1.0, "champion": 0.5}},
    )
    found = Parsed(write_page(verdict, evidence, background({f"{text}0": text}, text)))
    harmless = page(*tame(verdict, evidence), {"x0": "x"})
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags] and found.balanced
    assert [sorted(attributes) for _, attributes in found.tags] == [
        sorted(attributes) for _, attributes in harmless.tags
    ]
    assert "\u202e" not in found.text and "\x00" not in found.text


def tame(verdict: Verdict, evidence: Evidence) -> tuple[Verdict, Evidence]:
    """The same, of harmless words."""
    frame = judged.predictions(1, 0.9, n=20).assign(
        gold="x", answer="x", id=[f"x{number}" for number in range(20)], slices=pandas.Series([["x"]] * 20), correct=0.0
    )
    behaviour = {"x": {**judged.BEHAVIOUR["names"], "groups": {"x": {"n": 1}}}}
    record: Any = {
        "metrics": {"accuracy": 0.5},
        "cost": {"x": 1.0},
        "classes": {"x": {"n": 20, "recall": 0.5}},
        "slices": {"x": {"n": 20, "accuracy": 0.5}},
        "behaviour": behaviour,
    }
    result = RuleResult(
        rule="x",
        outcome="fail",
        sentence="x",
        evidence={"value": 0.5, "bound": 0.6, "method": "x", "slices": [{"name": "x", "value": 0.1}]},
    )
    told = {"champion": "x", "results": [result], "changes": {"x": {"release": 1.0, "champion": 0.5}}}
    return verdict.model_copy(update=told), Evidence(
        judged.RELEASE,
        Measured(record, frame=frame),
        "x",
        {"champion": Measured(record, frame=frame.assign(correct=1.0))},
    )


def test_a_page_of_very_many_flips_shows_the_first_and_says_so() -> None:
    frame = judged.predictions(1, 0.9, n=3000).assign(correct=0.0)
    frame["answer"] = "y" * (LONGEST + 50)
    evidence = Evidence(
        judged.RELEASE,
        judged.measured(judged.RELEASE, frame),
        "c",
        {"champion": judged.measured("c", frame.assign(correct=1.0))},
    )
    text = write_page(judged.verdict(), evidence, Background())
    assert text.count('<li class="lost"') == MOST_FLIPS and "2,500 more are in predictions.parquet" in text
    assert "y" * LONGEST not in text and "3000 lost, 0 gained" in text


def test_every_picture_has_words() -> None:
    found = page()
    images = [attributes for _, attributes in found.tags if attributes.get("role") == "img"]
    assert len(images) == 4 + 1 + 1 + 1 and all(attributes.get("aria-label") for attributes in images)
    drawn = [attributes for tag, attributes in found.tags if tag == "svg"]
    assert all(attributes.get("aria-hidden") == "true" or attributes.get("aria-label") for attributes in drawn)
    controls = [attributes for tag, attributes in found.tags if tag in ("select", "input")]
    assert len(controls) == 3 and all(attributes.get("aria-label") for attributes in controls)


@pytest.mark.parametrize(
    ("metrics", "rows"),
    [
        (
            {"accuracy": 0.9, "parent_accuracy": 0.92, "size_ratio": 0.4},
            [("accuracy", 0.9, 0.92), ("size_ratio", 0.4, None)],
        ),
        ({"accuracy": 0.9}, []),
    ],
)
def test_what_quantization_cost_is_told_where_the_parent_was_measured(metrics: dict[str, Any], rows: list[Any]) -> None:
    assert beside_parent(metrics) == rows


def test_numbers_and_sentences_of_each_rule_stand_on_the_page() -> None:
    text = re.sub(r"\s+", " ", page().text)
    for one in judged.verdict().results:
        assert one.rule in text
    assert (
        "detectable difference0.062" in text
        and "to decideabout 410 more rows" in text
        and "Newcombe 1998, method 10" in text
    )
    assert "release number 3 to be judged at these test rows" in text and "0.7958" in text


def test_a_digest_is_short_and_can_be_copied_whole() -> None:
    found = page()
    buttons = [attributes for tag, attributes in found.tags if tag == "button"]
    assert [one["data-copy"] for one in buttons] == [judged.RELEASE, judged.CHAMPION]
    assert all("hidden" in one for one in buttons), "without JavaScript there is nothing to press"
    head = found.text.split("What decided")[0]
    assert f"sentiment@{'a' * 12}" in head and "a" * 64 not in head and judged.RELEASE in found.text, "whole at the end"
