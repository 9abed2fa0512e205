"""report.md as a Markdown parser reads it: texts stay texts, tables keep their columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from configs.verdict import RuleResult, Verdict
from eval.report import summary
from eval.report.labels import MOST_LABELS
from eval.report.markdown import FLIPS_SHOWN, LONGEST, code, figure, one_line, plain, write_markdown
from eval.report.since import Difference
from eval.rules.evidence import Evidence, Measured
from tests.support import judged

pytestmark = pytest.mark.unit
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(st.characters(codec="utf-8") | st.sampled_from("|`\n\\*_<>&[]()#~$@!:-+=.1 \u202e"), max_size=40)
OURS = {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "h1",
    "h2",
    "p",
    "ul",
    "li",
    "strong",
    "em",
    "code",
    "details",
    "summary",
    "a",
}


class Seen(HTMLParser):
    """The tags and the visible text of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def render(markdown: str) -> Seen:
    return Seen(PARSER.render(markdown))


def report(verdict: Verdict | None = None, evidence: Evidence | None = None, **links: str) -> str:
    background = summary.Background({"Git revision": "abc"}, differences=[Difference("config", "a|b", "<1>", "2")])
    return write_markdown(verdict or judged.verdict(), evidence or judged.evidence(), background, links)


def sections(text: str) -> Iterator[str]:
    yield from re.findall(r"(?m)^## (.*)$", text)


@given(NASTY, st.sampled_from([plain, code]))
def test_any_text_in_a_cell_reads_as_it_is_written(text: str, write: Any) -> None:
    seen = render(f"| a | b |\n|---|---|\n| {write(text)} | end |")
    assert set(seen.tags) <= OURS and "a" not in seen.tags
    assert len(seen.cells) == 2 and seen.cells[1] == "end"
    if one_line(text, LONGEST):
        assert " ".join(seen.cells[0].split()) == one_line(text, 1000 if write is plain else LONGEST)


@cache
def evidence() -> Evidence:
    return judged.evidence()


@given(NASTY)
def test_no_text_of_the_gate_can_be_markup(text: str) -> None:
    result = RuleResult(rule=text, outcome="fail", sentence=text, evidence={"slices": []})
    verdict = Verdict(
        release=judged.RELEASE, outcome="fail", results=[result], changes={text: {"release": 1.0, "base": 2.0}}
    )
    seen = render(report(verdict, evidence()))
    assert set(seen.tags) <= OURS and "a" not in seen.tags and seen.tags.count("h1") == 1


def test_names_of_people_and_issues_stand_in_code_where_gitlab_looks_for_none() -> None:
    assert code("@all see #1 and :tada:") == "`@all see #1 and :tada:`"
    assert code("`@all` |") == "<code>&#96;&#64;all&#96; &#124;</code>"
    assert code(" \n") == "*(empty)*" and plain("exact_match") == "exact_match"


def test_long_texts_are_cut() -> None:
    assert len(one_line("x" * 5000, LONGEST)) == LONGEST and code("x" * 5000).endswith("…`")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (0, "0"),
        (None, ""),
        (float("nan"), ""),
        (True, ""),
        (35_000_000, "35,000,000"),
        (1e-5, "1e-05"),
        ("x", ""),
    ],
)
def test_figures_have_four_digits(value: Any, text: str) -> None:
    assert figure(value) == text


def test_the_verdict_comes_first_and_the_parts_in_the_order_of_reading() -> None:
    text = report()
    assert text.startswith(
        "# Gate: fail\n\n**Fail: in topic=travel, labels 44 points fewer rows right than the champion.**\n\n"
        "Also failed: accuracy non-inferior to champion by 0.05."
    )
    assert [*sections(text)] == ["What changed", "Rules", "Worst slices by accuracy", "Flipped examples"]
    assert "release number 3 to be judged" in text and f"champion `{judged.CHAMPION}`" in text


def test_each_reference_has_its_column_and_says_which_way_and_whether_that_is_good() -> None:
    text = report()
    assert "| metric | release | champion | change | base | change |" in text
    assert (
        "| accuracy | 0.7958 | 0.9333 | ▼ -0.138 (-0.2 … -0.08) worse "
        "| 0.6 | ▲ +0.196 (-0.04 … +0.08) unclear |" in text
    )
    assert "| log_loss | 0.5 | 0.4 | ▲ +0.1 no interval |  |  |" in text, (
        "without an interval nobody knows whether that is worse"
    )


def test_what_differs_from_the_champion_and_what_was_not_judged_is_told() -> None:
    text = report()
    assert "Since the champion: 1 difference in gate" in text and "| config | a&#124;b | &#60;1> | 2 |" in text
    assert text.index("**Not judged**") < text.index("## What changed")


def test_the_numbers_behind_a_rule_stand_in_its_row() -> None:
    cells = [row.strip("| ").split(" | ") for row in report().splitlines() if "**fail**" in row]
    assert cells[0] == [
        "accuracy non-inferior to champion by 0.05", "**fail**", "-0.138", "-0.2 … -0.08", "240", "0.0004", "0.062",
        "accuracy differs by -0.138 on 240 examples.",
    ]  # fmt: skip


def test_five_flips_each_way_are_shown_and_all_are_counted() -> None:
    flips = summary.flips(judged.evidence())
    text = report()
    for kind, title in (("lost", "Lost against the champion"), ("gained", "Gained over the champion")):
        count = sum(flip.kind == kind for flip in flips)
        part = text.split(f"**{title}: {count}**")[1].split("**")[0].split("<details>")[0]
        assert count > FLIPS_SHOWN and sum(line.startswith("| ") for line in part.splitlines()) == FLIPS_SHOWN + 1


def test_the_worst_slices_are_first_and_the_rest_are_folded() -> None:
    part = report().split("## Worst slices")[1].split("## ")[0]
    assert part.index("topic=travel") < part.index("<details>") < part.index("topic=work")


def test_of_many_labels_the_weakest_and_the_most_confused_are_told() -> None:
    names = [f"label|{place:02}" for place in range(MOST_LABELS + 1)]
    frame = judged.predictions(1, 0.9, n=340).assign(gold=names * 20, answer=names * 20)
    frame.loc[frame["gold"] == "label|07", "answer"] = "label|08"
    record: Any = {"classes": {name: {"n": 20, "recall": float(name != "label|07")} for name in names}}
    text = report(judged.verdict(), Evidence(judged.RELEASE, Measured(record, frame=frame)))
    part = text.split("## The weakest of 17 labels")[1].split("## ")[0]
    assert part.index("| label&#124;07 | 20 | 0 |") < part.index("| label&#124;00 | 20 | 1 |")
    assert "| <code>label&#124;07</code> | <code>label&#124;08</code> | 20 |" in part
    assert "weakest" not in report(), "of a few labels the page shows all"


def test_links_are_given_where_there_are_any() -> None:
    assert render(report(page="https://gitlab.invalid/-/jobs/7/artifacts/file/report.html")).tags.count("a") == 1


def test_without_an_evaluation_there_is_still_a_verdict() -> None:
    verdict = Verdict(release=judged.RELEASE, outcome="inconclusive", results=[])
    text = report(verdict, Evidence(judged.RELEASE, None))
    assert (
        "**Inconclusive: there was no rule to judge by.**" in text
        and [*sections(text)] == ["Rules"]
        and "champion none" in text
    )
    assert [*sections(report(verdict, Evidence(judged.RELEASE, Measured({"metrics": {}}))))] == ["Rules"]
