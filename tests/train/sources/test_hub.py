"""A set as the hub holds it, in a folder of its name: `datasets` reads that as it reads the hub, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from configs.errors import ExternalError, InputError
from configs.rows.data import Data
from train.sources.hub import read_hub
from train.sources.source import Source

pytestmark = pytest.mark.unit
CARD = """---
configs:
- config_name: films
  data_files:
  - {split: train, path: films/train.jsonl}
  - {split: dev, path: films/dev.jsonl}
  - {split: test, path: films/test.jsonl}
- config_name: books
  data_files:
  - {split: train, path: books.json}
dataset_info:
- config_name: films
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': bad, '1': good}}}
  - name: tags
    sequence: {class_label: {names: {'0': O, '1': B-PER}}}
---
"""


@pytest.fixture
def hub(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = Path("owner/set")
    (folder / "films").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for number, split in enumerate(("train", "dev", "test")):
        row = {"text": f"film of {split}", "label": number % 2, "tags": [0, 1]}
        (folder / "films" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "books.json").write_text(json.dumps([{"text": "a book"}, {"text": "another"}]))


def source(**keys: Any) -> Source:
    return read_hub(Data.model_validate({"source": "hub", "hub_id": "owner/set", "revision": "0" * 40} | keys))


def test_a_set_is_streamed_with_the_names_of_its_classes(hub: None) -> None:
    found = source(hub_config="films")
    (batch,) = found.batches()
    assert batch.rows == [{"text": "film of train", "label": "bad", "tags": ["O", "B-PER"]}]
    assert (batch.file, batch.part, batch.numbers, batch.stem) == ("owner/set/films", "", [1], "set/films")
    assert "0" * 40 in found.identity() and "films" in found.identity()


def test_json_files_of_a_set_are_read(hub: None) -> None:
    (batch,) = source(hub_config="books").batches()
    assert batch.rows == [{"text": "a book"}, {"text": "another"}]


def test_given_splits_have_the_names_that_the_set_gives_them(hub: None) -> None:
    found = source(hub_config="films", hub_split={"validation": "dev"}, split={"method": "given"})
    assert [(batch.part, batch.rows[0]["text"]) for batch in found.batches() if isinstance(batch.rows[0], dict)] == [
        ("train", "film of train"),
        ("validation", "film of dev"),
        ("test", "film of test"),
    ]
    assert len({batch.stem for batch in found.batches()}) == 3


@pytest.mark.parametrize(
    ("keys", "why"),
    [({"hub_config": "plays"}, "films"), ({"hub_config": "films", "hub_split": "valid"}, "dev")],
)
def test_what_the_set_does_not_hold_is_said_with_what_it_holds(hub: None, keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ExternalError, match=why) as caught:
        list(source(**keys).batches())
    assert "hub_config" in str(caught.value.hint)


def test_of_several_configurations_none_is_taken_unasked(hub: None) -> None:
    with pytest.raises(InputError, match="films, books"):
        list(source().batches())


@pytest.mark.parametrize("error", [ConnectionError("no route"), RuntimeError("cannot send a request")])
def test_a_hub_out_of_reach_is_outside(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ExternalError, match="owner/set"):
        list(source(hub_config="films").batches())


def test_without_a_folder_of_its_name_it_is_looked_for_on_the_hub_at_its_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def load(path: str, **options: Any) -> Any:
        asked.update(options, path=path)
        return [{"text": "a"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    (batch,) = source(hub_config="films").batches()
    assert batch.rows == [{"text": "a"}]
    assert asked == {"path": "owner/set", "name": "films", "revision": "0" * 40, "split": "train", "streaming": True}
