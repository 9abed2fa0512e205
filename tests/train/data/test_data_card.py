"""The page opens anywhere: one file, nothing fetched, no script, whatever the rows say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from train.data.data_card import write_page

pytestmark = pytest.mark.unit
SPLIT = {"rows": 1200, "sha256": "sha256:ab"}
CARD: Any = {
    "source": "files: <a>.jsonl",
    "licence": "CC",
    "corrupt": "none",
    "fingerprint": "sha256:cd",
    "splits": dict.fromkeys(("train", "validation", "test"), SPLIT),
    "findings": [{"kind": "duplicate", "action": "drop", "count": 3}],
    "left_out": {"duplicate": 2, "no_accepted_answer": 7},
    "balance": {"train": {"good": 30, "<bad>": 10}, "validation": {"good": 3}, "test": {"<bad>": 2}},
    "lengths": {"counts": [5, 9, 1], "edges": [4, 8, 12, 16]},
    "near_duplicates": {"threshold": 0.8, "train_rows": 1200, "train_rows_indexed": 300},
}


def test_the_page_is_one_file_without_scripts_or_addresses() -> None:
    page = write_page("demo", CARD, [])
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\"\s<]*", page)) <= {"http://www.w3.org/2000/svg"}, "only the name of SVG itself"
    assert page.count("<svg") == 2


def test_what_rows_say_cannot_become_markup() -> None:
    page = write_page("demo", CARD, ["rows.jsonl:3: found <b>bold</b>"])
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page and "<a>.jsonl" not in page


def test_the_page_tells_findings_what_was_left_out_and_what_was_compared() -> None:
    page = write_page("demo", CARD, [])
    assert "<td>duplicate</td><td>drop</td><td>3</td><td>2</td>" in page
    assert "<td>no_accepted_answer</td><td>by the source</td><td>7</td><td>7</td>" in page
    assert "300 of 1,200" in page


def test_the_same_card_gives_the_same_bytes() -> None:
    assert write_page("demo", CARD, []) == write_page("demo", CARD, [])


def test_rows_without_labels_or_counted_tokens_have_no_plot_of_them() -> None:
    empty = CARD | {"balance": {"train": {}, "validation": {}, "test": {}}, "lengths": {"counts": [], "edges": []}}
    assert "<svg" not in write_page("demo", empty, [])


def test_many_labels_are_cut_to_the_commonest() -> None:
    counts = {f"label {number}": 100 - number for number in range(50)}
    assert "20 rarer labels are not shown" in write_page("demo", CARD | {"balance": {"train": counts}}, [])
