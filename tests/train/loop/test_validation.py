"""Validation's loss and figures are those of the whole split, whatever the micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import KINDS, Row, of_kind, write_prepared
from train.batches.dataset import open_splits
from train.loop.arguments import trainer_arguments
from train.loop.trainer import build_trainer, schedule_rows
from train.loop.validation import Validation, read_answers, use_whole_validation
from train.model.base import make_base

pytestmark = pytest.mark.unit


def words(index: int) -> int:
    """Rows of very unlike lengths, so that a mean of micro-batches' means is another one."""
    return 1 + (index % 6) ** 2 // 2


def tagged(index: int) -> Row:
    return {"tokens": ["Ann", *["film"] * words(index)], "tags": ["B-PER", *["O"] * words(index)]}


def labelled(index: int) -> Row:
    return {"text": "good " * words(index), "label": ("bad", "good")[index % 2]}


def completion(index: int) -> Row:
    return {"prompt": f"film {index}:", "completion": " good" * words(index)}


def text(index: int) -> Row:
    return {"text": "a good film " * words(index)}


def preference(index: int) -> Row:
    asked = {"role": "user", "content": f"film {index}"}
    return {"messages": [asked, {"role": "assistant", "content": "good " * words(index)}], "rejected": "bad"}


UNEVEN: dict[str, tuple[str, Callable[[int], Row], list[str]]] = {
    "tags": ("tags", tagged, ["O", "B-PER", "I-PER"]),
    "labels": ("many labels", KINDS["many labels"][3], ["bad", "good"]),
    "numbers": ("numbers", KINDS["numbers"][3], []),
    "completions": ("completions", completion, []),
    "padded": ("completions", completion, []),
    "texts": ("texts", text, []),
    "preferences": ("preferences", preference, []),
}


def measured(config: RunConfig, kind: str, micro_batch: int) -> tuple[float, Any]:
    name, _, labels = UNEVEN[kind]
    found = of_kind(config, name)
    with open_splits(RunPaths.of("x")) as (rows, validation):
        arguments = trainer_arguments(found, RunPaths.of("x"), micro_batch)
        trainer = build_trainer(found, make_base(found), labels, rows, validation, **arguments)
        schedule_rows(trainer, found, None)
        validate = use_whole_validation(trainer, found, labels)
        assert isinstance(validate, Validation)
        loss, pairs = validate.measure()
        assert trainer.model.training, "it goes on training"
    return loss, pairs


@pytest.mark.parametrize("kind", UNEVEN)
def test_the_loss_is_that_of_the_whole_split_whatever_the_micro_batch(
    kind: str, chat: Callable[..., RunConfig], classifier: Callable[..., RunConfig], checkout: Path
) -> None:
    name, row, labels = UNEVEN[kind]
    settings = {"batch_size": 24, "dtype": "float32", "packing": "none" if kind == "padded" else "auto"}
    config = (chat if KINDS[name][0] in ("causal-lm", "dpo") else classifier)(train=settings)
    write_prepared(RunPaths.of("x"), Path(config.base.path or ""), KINDS[name][2], row, labels)
    (loss, answers), *others = [measured(config, kind, size) for size in (8, 3, 1)]
    for other, said in others:
        assert other == pytest.approx(loss, rel=1e-5), "six rows of unlike lengths in 1, 2 or 6 micro-batches"
        assert [gold for gold, _ in said] == [gold for gold, _ in answers]


def test_padded_and_padding_free_rows_have_one_loss(chat: Callable[..., RunConfig], checkout: Path) -> None:
    write_prepared(RunPaths.of("x"), Path("tiny-gpt"), "completion", completion, [])
    losses = [
        measured(chat(train={"batch_size": 24, "dtype": "float32", "packing": packing}), "completions", 3)[0]
        for packing in ("none", "batch")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_answers_are_read_from_logits_where_there_is_a_gold_one() -> None:
    import torch

    one_hot = torch.eye(3)
    assert read_answers("single_label", one_hot[[2, 0]], torch.tensor([2, 1])) == [(2, 2), (1, 0)]
    assert read_answers("regression", torch.tensor([[0.5], [2.0]]), torch.tensor([1.0, 2.0])) == [
        (1.0, 0.5),
        (2.0, 2.0),
    ]
    logits, gold = torch.tensor([[0.1, -3.0], [-1.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert read_answers("multi_label", logits, gold) == [((1, 0), (1, 0)), ((1, 1), (0, 1))]
    tags = torch.tensor([[-100, 1, -100, 0], [-100, 1, 0, -100]])
    assert read_answers("tags", one_hot[torch.tensor([[0, 1, 2, 0], [2, 2, 0, 0]])], tags) == [
        ([1, 0], [1, 0]),
        ([1, 0], [2, 0]),
    ]
