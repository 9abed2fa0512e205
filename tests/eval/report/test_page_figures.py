"""What the page says of its figures: each once, in words, in colour only what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from configs.verdict import RuleResult
from eval.report.labels import MOST_LABELS
from eval.report.page import card_of, write_page
from eval.report.summary import Background
from eval.rules.evidence import Evidence, Measured
from tests.support import judged

pytestmark = pytest.mark.unit


def test_nothing_that_is_unclear_is_green() -> None:
    text = write_page(judged.verdict(), judged.evidence(), Background())
    table = text.split('id="changed"')[1].split("</section>")[0]
    assert '<span class="muted">▲ +0.196 (-0.04 … +0.08) unclear</span>' in table and '"better"' not in table
    assert '<span class="worse">▼ -0.138 (-0.2 … -0.08) worse</span>' in table


def test_the_figures_of_a_rule_are_told_in_words_and_none_twice() -> None:
    facts: Any = {"kind": "non_inferior_to", "metric": "accuracy", "reference": "champion", "reference_value": 0.4}
    facts |= {"difference": -0.3625, "low": -0.4752, "high": -0.2539, "bound": -0.05, "direction": "at least"}
    one = RuleResult(rule="r", outcome="fail", sentence="s", evidence=facts | {"power": 0.1399, "more_examples": 120})
    figures = card_of(one).figures
    assert len({label for label, _ in figures}) == len(figures)
    assert dict(figures) == {
        "difference": "-0.3625",
        "interval": "-0.4752 … -0.2539",
        "champion": "0.4",
        "allowed": "at least -0.05",
        "power": "would have passed in 14% of cases, were the two alike",
        "to decide": "about 120 more rows",
    }


def test_paritys_agreement_and_its_mean_difference_are_two_figures() -> None:
    facts: Any = {"kind": "parity", "value": 0.98, "agreement": 0.98, "difference": 0.004, "prompts": 16, "n": 16}
    figures = dict(card_of(RuleResult(rule="parity", outcome="pass", sentence="s", evidence=facts)).figures)
    assert figures == {"agreement": "0.98", "mean difference": "0.004", "rows": "16"}


def test_of_many_labels_the_weakest_and_the_most_confused_are_shown() -> None:
    labels = [f"label-{place:02}" for place in range(MOST_LABELS + 5)]
    frame = judged.predictions(1, 0.9, n=420).assign(gold=labels * 20, answer=labels * 20)
    frame.loc[frame["gold"] == "label-07", "answer"] = "label-08"
    record: Any = {"classes": {one: {"n": 20, "recall": float(one != "label-07"), "f1": 0.5} for one in labels}}
    text = write_page(judged.verdict(), Evidence(judged.RELEASE, Measured(record, frame=frame)), Background())
    part = text.split('id="labels"')[1].split("</section>")[0]
    assert "confusion" not in part and part.count("<tr><td>") == 10 + 1 and "of 21 labels" in part
    assert text.index('id="decided"') < text.index('id="labels"') < text.index('id="origin"')
    assert part.index("label-07") < part.index("label-00") and "<td>label-07</td><td>label-08</td>" in part


def test_what_was_too_small_to_be_judged_stands_before_everything_but_the_headline() -> None:
    text = write_page(judged.verdict(), judged.evidence(), Background())
    places = [text.index(f'id="{name}"') for name in ("headline", "not-judged", "decided", "changed", "rules")]
    assert places == sorted(places)
