"""Labels and tags as files hold them, through prepare: one spelling, one scheme, names for numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.tokenizer import read_tokenizer
from tests.support.prepared_rows import of_kind
from train.data.prepared import read_split
from train.model.base import make_base
from train.prepare import prepare
from train.release.model_card import use

pytestmark = pytest.mark.unit


def write(rows: list[dict[str, Any]]) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")


def sentences(tags: list[Any]) -> list[dict[str, Any]]:
    return [{"tokens": ["film", "by", "Ann", str(index)], "tags": tags} for index in range(30)]


@pytest.mark.parametrize(
    ("tags", "labels", "scheme"),
    [
        (["O", "O", "B-PER", "L-PER"], [], "bilou"),
        (["O", "O", "PER-B", "PER-I"], [], "iob2"),
        (["O", "O", "PER", "PER"], [], "bare"),
        ([0, 0, 2, 1], ["O", "I-PER", "B-PER"], "iob2"),
        ([0, 0, 1, 2], ["O", "B-PER", "E-PER", "S-PER"], "bioes"),
    ],
)
def test_tags_are_kept_in_iob2_whatever_scheme_they_were_in(
    classifier: Callable[..., RunConfig], tags: list[Any], labels: list[str], scheme: str
) -> None:
    config, paths = of_kind(classifier(), "tags"), RunPaths.of("x")
    config = config.model_copy(update={"data": config.data.model_copy(update={"labels": labels})})
    write(sentences(tags))
    card = prepare(config, paths, make_base(config))
    assert card["labels"] == ["O", "B-PER", "I-PER"] and card.get("tags") == scheme
    assert all(list(row["tags"]) == ["O", "O", "B-PER", "I-PER"] for row in read_split(paths, "test"))
    assert f"<td>{scheme}</td>" in (paths.data / "data_card.html").read_text()


def test_a_later_row_in_another_scheme_is_named(classifier: Callable[..., RunConfig]) -> None:
    config, paths = of_kind(classifier(), "tags"), RunPaths.of("x")
    write(
        [
            *sentences(["O", "O", "B-PER", "I-PER"]),
            {"tokens": ["a", "b"], "tags": ["U-PER", "O"]},
            {"tokens": ["a", "c"], "tags": ["PER", "O"]},
        ]
    )
    with pytest.raises(RefusedError) as caught:
        prepare(config, paths, make_base(config))
    assert "rows.jsonl:31: invalid_tag: found U-PER at word 1, where iob2 has B-PER" in str(caught.value)
    assert "rows.jsonl:32: invalid_tag: found PER, which has no position" in str(caught.value)


def test_two_texts_are_counted_compared_and_kept(classifier: Callable[..., RunConfig]) -> None:
    """Columns by their own names; the same first text with another second one is another question."""
    config, paths = classifier(data={"columns": {"text": "premise", "text_pair": "hypothesis"}}), RunPaths.of("x")
    rows = [
        {
            "premise": f"film {index // 2}",
            "hypothesis": f"{('good', 'bad')[index % 2]} {index // 2}",
            "label": index % 2,
        }
        for index in range(30)
    ]
    write(rows)
    card = prepare(config, paths, make_base(config))
    assert card["labels"] == ["0", "1"] and not card["left_out"]["duplicate"]
    separator = card.get("pair_separator")
    assert separator == read_tokenizer(Path("tiny-bert")).pair_separator
    assert f"TEXT{separator!r}TEXT_PAIR" in use(config, card["labels"], separator)
    row = read_split(paths, "test")[0]
    assert {"id", "text", "text_pair", "label"} <= row.keys() and row["text_pair"].split()[0] in ("good", "bad")
    write([*rows, rows[0], rows[1] | {"label": 0}, {"premise": "film", "hypothesis": None, "label": 1}])
    with pytest.raises(RefusedError) as caught:
        prepare(config, paths, make_base(config))
    for fault in ("31: duplicate", "32: conflicting_answer", "33: missing_field: found text_pair: nothing"):
        assert f"rows.jsonl:{fault}" in str(caught.value)


@pytest.mark.parametrize("other", ["Good", "good ", "  GOOD", "\uff47ood"])
def test_two_spellings_of_one_label_are_told_and_may_be_kept(classifier: Callable[..., RunConfig], other: str) -> None:
    paths = RunPaths.of("x")
    with Path("rows.jsonl").open("a", encoding="utf8") as stream:
        stream.writelines(json.dumps({"text": f"film no {index}", "label": other}) + "\n" for index in range(8))
    with pytest.raises(RefusedError, match="label_variants") as caught:
        prepare(classifier(), paths, make_base(classifier()))
    assert f"{other!r} (8)" in str(caught.value) and "'good' (20)" in str(caught.value)
    assert "label_variants: keep" in str(caught.value.hint)
    kept = classifier(data={"lint": {"label_variants": "keep"}})
    assert sorted(prepare(kept, paths, make_base(kept))["labels"]) == sorted(["bad", "good", other])
