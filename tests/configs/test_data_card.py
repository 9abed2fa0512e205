"""Data cards: of today, of an earlier version, and none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.data_card import read_data_card
from configs.paths import RunPaths

pytestmark = pytest.mark.unit
PATHS = RunPaths(Path("build/x"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    PATHS.data.mkdir(parents=True)
    return PATHS.data


@pytest.mark.parametrize("name", ["corrupt", "damage"])
def test_a_card_is_read_by_its_names_of_today_and_of_before(folder: Path, name: str) -> None:
    (folder / "data_card.json").write_text(json.dumps({"source": "bfcl", name: "shuffle_answers", "key": "k"}))
    assert read_data_card(PATHS) == {"source": "bfcl", "corrupt": "shuffle_answers", "key": "k"}


@pytest.mark.parametrize("text", [None, "", "[1]", '{"source": '])
def test_what_is_no_card_is_none(folder: Path, text: str | None) -> None:
    if text is not None:
        (folder / "data_card.json").write_text(text)
    assert read_data_card(PATHS) is None
