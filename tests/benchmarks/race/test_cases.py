"""The words of the table of cases are made of what was fed to the peer's Trainer, or of its error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.race.cases import Case, count, seen

pytestmark = pytest.mark.unit
FED = {"weight": 0.5, "rows": [{"text": {"input_ids": text}, "loss": {"labels": "b"}} for text in ("a b", "b")]}
HOLDS_A = Case("a case", "rows.jsonl", "2 rows", count("a", "an a in {}"))


@pytest.mark.parametrize(
    ("case", "fed", "error", "words"),
    [
        (HOLDS_A, FED, "", "2 rows, an a in 1"),
        (HOLDS_A._replace(tell=count("a", "an a in the loss of {}", "loss")), FED, "", "2 rows, an a in the loss of 0"),
        (HOLDS_A, FED, "IndexError: index", "2 rows, an a in 1; then error: `IndexError: index`"),
        (HOLDS_A, None, "KeyError: `role`\n  at all", "error: `KeyError: 'role' at all`"),
        (HOLDS_A._replace(weights="trainer"), FED, "", "2 rows, the checkpoint's weights"),
        (HOLDS_A._replace(weights="trainer"), FED | {"weight": 0.1}, "", "2 rows, the model on top"),
    ],
)
def test_a_cell_says_what_was_fed_and_how_it_ended(
    tmp_path: Path, case: Case, fed: dict[str, Any] | None, error: str, words: str
) -> None:
    (tmp_path / "seen.json").write_text(json.dumps({"error": error}))
    if fed:
        (tmp_path / "rows.json").write_text(json.dumps(fed))
    assert seen(case, tmp_path) == words


def test_a_case_that_was_not_asked_says_so(tmp_path: Path) -> None:
    assert seen(HOLDS_A, tmp_path / "never") == "not asked"
