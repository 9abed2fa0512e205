"""Weights to zero: Wanda and SparseGPT by llmcompressor, magnitude by torch; then a short fine-tune that keeps the
zeros."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from configs.run.quantize import Prune
from train.batches.collate import ModelInputs, pad, pad_classes, pad_tags
from train.batches.dataset import EncodedRow
from train.release.recipe import plain_layers, quantized_layers, quiet, run


def prune(model: Any, settings: Prune, loader: Any) -> None:
    """In place. The layers pruned are those that quantization would take: no embedding, no head."""
    if settings.method == "magnitude":
        prune_smallest(model, settings.sparsity)
        return
    with quiet():
        run(model, [modifier(model, settings)], loader)


def prune_smallest(model: Any, share: float) -> None:
    """By torch, for in one shot the MagnitudePruningModifier of llmcompressor 0.14.0.1 was seen to leave the model as
    it was."""
    from torch.nn.utils import prune as torch_prune

    for layer in quantized_layers(model).values():
        torch_prune.l1_unstructured(layer, "weight", amount=share)  # type: ignore[no-untyped-call]
        torch_prune.remove(layer, "weight")  # type: ignore[no-untyped-call]


def modifier(model: Any, settings: Prune) -> Any:
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

    kind = WandaPruningModifier if settings.method == "wanda" else SparseGPTModifier
    structure = settings.structure if settings.structure != "unstructured" else "0:0"
    return kind(
        sparsity=settings.sparsity,
        mask_structure=structure,
        targets=sorted(quantized_layers(model)),
        ignore=plain_layers(model),
    )


def recover(
    model: Any,
    settings: Prune,
    encoded: list[EncodedRow],
    labels: list[str],
    pad_token_id: int,
    batch_size: int,
    seed: int,
) -> None:
    """`recovery_steps` of AdamW on the train rows' tokens, every weight but the zeros; zeros are set again after each
    step."""
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
    from transformers.trainer_callback import PrinterCallback

    zeros = {name: layer.weight == 0 for name, layer in quantized_layers(model).items()}

    class KeepZeros(TrainerCallback):
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            with torch.no_grad():
                for name, layer in quantized_layers(model).items():
                    layer.weight.masked_fill_(zeros[name], 0)

    model.requires_grad_(True)  # peft froze the base, and merging does not thaw it
    set_seed(seed)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=str(Path(folder)),
            max_steps=settings.recovery_steps,
            per_device_train_batch_size=batch_size,
            learning_rate=settings.recovery_learning_rate,
            seed=seed,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(encoded),
            data_collator=partial(collate, pad_token_id=pad_token_id, labels=labels),
            callbacks=[KeepZeros()],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to stdout, which belongs to the command line
        trainer.train()
    model.cpu().eval()


def collate(rows: list[EncodedRow], pad_token_id: int, labels: list[str]) -> ModelInputs:
    """As the task's trainer pads them, by what the rows hold."""
    if "loss_mask" in rows[0]:
        return pad(rows, pad_token_id)
    return (pad_tags if "tags" in rows[0] else pad_classes)(rows, pad_token_id, labels)


def sparsity(model: Any) -> float:
    """Share of zeros among the weights of the layers that can be pruned."""
    weights = [layer.weight for layer in quantized_layers(model).values()]
    zeros, count = sum(int((weight == 0).sum()) for weight in weights), sum(int(weight.numel()) for weight in weights)
    return zeros / count
