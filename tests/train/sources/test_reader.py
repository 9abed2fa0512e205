"""Where rows come from: packaged sets that say what they are, files of one's own, a hub that may be out of reach."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.run.config import RunConfig
from train.sources import sentiment
from train.sources.ner_finance import read_ner_finance, tag_words
from train.sources.reader import read_source
from train.sources.sentiment import read_sentiment
from train.sources.source import Row, Source

pytestmark = pytest.mark.unit


def rows_of(source: Source) -> list[Row]:
    return [row for batch in source.batches() for row in batch.rows if isinstance(row, dict)]


def own(**data: Any) -> RunConfig:
    sections = {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "train": {"epochs": 1},
        "gate": "g",
    }
    return RunConfig.model_validate(sections | {"data": data})


def test_sentiment_holds_three_thousand_sentences_of_both_labels() -> None:
    found = read_sentiment()
    labels = [row["label"] for row in rows_of(found)]
    assert len(rows_of(found)) == 3000 and labels.count("positive") == labels.count("negative") == 1500
    assert len({row["id"] for row in rows_of(found)}) == 3000 and all(row["text"] for row in rows_of(found))


def test_the_environment_says_where_node_modules_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures = tmp_path / "sentiment" / "test" / "fixtures"
    fixtures.mkdir(parents=True)
    (tmp_path / "sentiment" / "package.json").write_text('{"version": "9"}')
    for name in sentiment.SENTIMENT_FILES:
        (fixtures / name).write_text('[{"text": " so so ", "class": 1}]')
    monkeypatch.setenv("TUNEGATE_NODE_MODULES", str(tmp_path))
    found = read_sentiment()
    assert found.name.startswith("npm sentiment 9")
    assert rows_of(found)[0] == {"id": "amazon-0", "text": "so so", "label": "positive"}


@pytest.mark.parametrize("text", ["{}", "[]", "not json"])
def test_a_broken_sentiment_package_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "package.json").write_text(text)
    monkeypatch.setenv("TUNEGATE_NODE_MODULES", str(tmp_path))
    with pytest.raises(InputError, match="make setup"):
        read_sentiment()


def test_a_packaged_rows_number_is_its_place_in_the_file() -> None:
    batch = next(read_sentiment().batches())
    assert (batch.file, batch.numbers[:2], batch.rows[0]["id"]) == ("amazon.json", [1, 2], "amazon-0")  # type: ignore[index]  # a row


def test_tagged_sentences_say_their_entities() -> None:
    rows = rows_of(read_ner_finance())
    assert len(rows) + read_ner_finance().left_out["entity_not_found"] == 1164 and len(rows) > 1100
    assert {tag for row in rows for tag in row["tags"]} == {
        "O",
        *(f"{mark}-{kind}" for mark in "BI" for kind in ("PER", "ORG", "LOC")),
    }
    assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)
    assert all(
        before[2:] == tag[2:]
        for row in rows
        for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False)
        if tag.startswith("I-")
    )


@pytest.mark.parametrize(
    ("text", "ideal", "tags"),
    [
        ("Bank and Bank .", "[Bank - ORGANIZATION, Bank - PERSON]", "B-ORG O B-PER O"),
        ("St. Paul Bank", "[Bank - ORGANIZATION, St. Paul - LOCATION]", "B-LOC I-LOC I-LOC B-ORG"),
        ("a b", "No entities found", "O O"),
        ("Smith - Jones , Inc", "[Smith - Jones , Inc - ORGANIZATION]", "B-ORG I-ORG I-ORG I-ORG I-ORG"),
        ("a b", "[c - PERSON]", None),
        ("a b", "[a - PERSON, a - PERSON]", None),
    ],
)
def test_entities_are_found_in_order_else_anywhere_else_the_row_is_left_out(
    text: str, ideal: str, tags: str | None
) -> None:
    row = tag_words(text, ideal)
    assert (row and " ".join(row["tags"])) == tags


@pytest.mark.parametrize("error", [metadata.PackageNotFoundError("evals"), OSError("gone")])
def test_a_missing_tagged_set_names_the_command(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: str) -> Any:
        raise error

    monkeypatch.setattr(metadata, "distribution", fail)
    with pytest.raises(InputError, match="make setup"):
        read_ner_finance()


def test_files_of_ones_own_are_read_anew_each_time_and_known_by_their_bytes(checkout: Path) -> None:
    Path("rows.jsonl").write_text('{"a": 1}\n')
    source = read_source(own(source="files", files=["rows.jsonl"]))
    before = source.identity()
    assert rows_of(source) == rows_of(source) == [{"a": 1}]
    Path("rows.jsonl").write_text('{"a": 2}\n')
    assert rows_of(source) == [{"a": 2}] and source.identity() != before


def test_given_splits_say_which_file_is_which(checkout: Path) -> None:
    for name in "abc":
        Path(f"{name}.jsonl").write_text(json.dumps({"from": name}))
    source = read_source(
        own(
            source="files",
            files=["a.jsonl"],
            validation_files=["b.jsonl"],
            test_files=["c.jsonl"],
            split={"method": "given"},
        )
    )
    assert [(batch.part, batch.rows) for batch in source.batches()] == [
        ("train", [{"from": "a"}]),
        ("validation", [{"from": "b"}]),
        ("test", [{"from": "c"}]),
    ]
