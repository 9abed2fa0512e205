"""A verdict is read as it was written, by this version or by an older one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.verdict import Verdict

pytestmark = pytest.mark.unit
OLD = {
    "release": "run@sha256:" + "a" * 64,
    "champion": None,
    "outcome": "pass",
    "results": [
        {
            "rule": "accuracy >= 0.7",
            "outcome": "pass",
            "sentence": "accuracy is 1.",
            "evidence": {"kind": "threshold", "value": 1, "n": 240.0, "a figure of another version": [1, "two"]},
        }
    ],
    "dataset": "sha256:rows",
    "looks": 3,
    "changes": {"accuracy": {"release": 0.9, "parent": None}},
}


def test_an_old_verdict_says_how_often_its_rows_were_used(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(json.dumps(OLD))
    found = Verdict.read(tmp_path / "verdict.json")
    assert found.holdout_uses == 3
    found.write(tmp_path / "again.json")
    written = json.loads((tmp_path / "again.json").read_text())
    assert written["holdout_uses"] == 3 and "looks" not in written
    assert Verdict.read(tmp_path / "again.json") == found


def test_evidence_stays_as_it_stands() -> None:
    found = Verdict.model_validate(OLD).results[0].evidence
    assert json.dumps(found) == json.dumps(OLD["results"][0]["evidence"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("champion", "seen", "told"),
    [
        (None, None, "the release itself was trained on all rows."),
        ("held out", None, "The champion was estimated likewise."),
        ("trained", 7, "was trained on 7 of these rows"),
        ("unknown", None, "may have been trained on these rows"),
    ],
)
def test_a_verdict_by_folds_says_so_and_what_the_champion_has_seen(champion: Any, seen: int | None, told: str) -> None:
    verdict = Verdict.model_validate(
        OLD | {"held_out": {"folds": 5, "champion": champion, "champion_trained_on": seen}}
    )
    assert verdict.held_out is not None
    assert verdict.held_out.sentence().startswith("Estimated by 5 folds") and told in verdict.held_out.sentence()
    assert Verdict.model_validate(OLD).held_out is None
