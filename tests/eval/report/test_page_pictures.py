"""The verdicts whose pages docs/reviewer.md shows are still made by the code that judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.eval.picture import MOST_BYTES
from benchmarks.eval.verdicts import CASES, make
from tests.paths import ROOT

pytestmark = pytest.mark.integration


def test_a_worse_release_is_refused_and_its_page_says_by_how_much_and_what_changed(tmp_path: Path) -> None:
    verdict, page = make("fail", tmp_path / "checkout")
    text = page.read_text(encoding="utf8")
    assert verdict.outcome == "fail" and "points fewer calls right than the champion." in text
    for part in ("decided", "changed", "since", "trend", "rules", "flipped"):
        assert f'<h2 id="{part}">' in text
    assert "<td>data.corrupt</td><td>none</td><td>shuffle_answers</td>" in text


@pytest.mark.parametrize("kind", CASES)
def test_each_page_has_its_picture(kind: str) -> None:
    picture = ROOT / "docs" / f"gate-{kind}.png"
    assert 10_000 < picture.stat().st_size <= MOST_BYTES
    assert f"](gate-{kind}.png)" in (ROOT / "docs" / "reviewer.md").read_text(encoding="utf8")
