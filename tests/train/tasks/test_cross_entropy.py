"""The smoothed loss of every task in training; the plain one in validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import KINDS, of_kind, write_prepared
from train.batches.collate import IGNORED
from train.batches.dataset import open_splits
from train.loop.arguments import trainer_arguments
from train.loop.trainer import build_trainer
from train.model.base import make_base
from train.tasks.cross_entropy import cross_entropy

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs_own_over_what_counts(shape: tuple[int, ...], smoothing: float) -> None:
    import torch

    torch.manual_seed(0)
    logits = torch.randn(shape, requires_grad=True)
    targets = torch.randint(0, 4, shape[:-1])
    targets.flatten()[0] = IGNORED
    outputs = SimpleNamespace(logits=logits)
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
    assert torch.allclose(cross_entropy(outputs, targets, smoothing=smoothing), wanted)
    assert torch.allclose(cross_entropy(outputs, targets, 10, smoothing) * 10, wanted * 5)
    with torch.no_grad():
        assert torch.allclose(cross_entropy(outputs, targets, smoothing=smoothing), cross_entropy(outputs, targets))


@pytest.mark.parametrize(("kind", "packing"), [("tags", "auto"), ("completions", "auto"), ("completions", "none")])
def test_a_tasks_trainer_smooths_in_training_and_not_in_validation(
    kind: str, packing: str, chat: Callable[..., RunConfig], classifier: Callable[..., RunConfig], checkout: Path
) -> None:
    """Against the same model's loss, written out from its logits."""
    import torch

    task, _, shape, row, labels = KINDS[kind]
    make = chat if task == "causal-lm" else classifier
    config = of_kind(make(train={"label_smoothing": 0.3, "packing": packing, "dtype": "float32"}), kind)
    paths = RunPaths.of("x")
    write_prepared(paths, Path(config.base.path or ""), shape, row, labels)
    with open_splits(paths) as (rows, validation):
        trainer = build_trainer(
            config, make_base(config), labels, rows, validation, **trainer_arguments(config, paths, 4)
        )
        found = trainer._remove_unused_columns(trainer.train_dataset)
        inputs: Any = trainer.data_collator([found[index] for index in range(3)])
    targets = inputs.get("shift_labels", inputs["labels"])
    logits = trainer.model(
        **{name: value for name, value in inputs.items() if name not in ("labels", "shift_labels")}
    ).logits
    if kind == "completions" and packing == "none":
        logits, targets = logits[:, :-1], targets[:, 1:]
    for context, smoothing in ((torch.enable_grad(), 0.3), (torch.no_grad(), 0.0)):
        with context:
            trainer.model.eval()
            loss = trainer.compute_loss(trainer.model, dict(inputs))
        wanted = torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )
        assert float(loss) == pytest.approx(float(wanted), rel=1e-4)
