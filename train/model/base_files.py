"""Which files of a place are the model: those on top before those below, by what the folders say that they are. What is
passed by (checkpoints, adapters, other formats, other modules) is named, and never taken for the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from configs.errors import InputError, RefusedError
from infra.files.atomic import read_json
from train.model.tensors import read_shapes

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
INDEX = "model.safetensors.index.json"
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack"}
PASSED_BY = re.compile(r".*\.(safetensors|gguf|onnx)|(pytorch_model|tf_model|flax_model|consolidated).*")
NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler")


def pick(files: list[Path], location: str, hint: str) -> Path:
    """The folder of the model's safetensors, else the one GGUF file.

    Raises InputError where none is there or several are, RefusedError where only pickles are.
    """
    there = [file for file in files if file.exists()]
    weighted = sorted({file.parent for file in there if WEIGHTS.fullmatch(file.name)})
    tops = topmost(named_transformer(there, weighted) or [one for one in weighted if is_model(one)] or weighted)
    refuse_pipeline(there, location)
    pickled = [file for file in there if is_pickle(file) and is_model(file.parent)]
    above = [file for file in pickled if tops and all(file.parent in top.parents for top in tops)]
    if above:
        raise RefusedError(
            f"{location}: found {above[0].name} for the model, and safetensors only in {names(tops, location)}; "
            "unpickling runs whatever code the file holds; expected model*.safetensors",
            hint="save the model with save_pretrained(DIR, safe_serialization=True), or name one of those folders",
        )
    if len(tops) > 1:
        raise InputError(
            f"{location}: found several models and none above them: {names(tops, location)}; expected one",
            hint=f"name the one that is meant: base: {{path: {tops[-1]}}}",
        )
    return tops[0] if tops else pick_gguf(there, files, location, hint)


def pick_gguf(there: list[Path], files: list[Path], location: str, hint: str) -> Path:
    gguf = sorted(file for file in there if file.suffix == ".gguf")
    if len(gguf) > 1:
        raise InputError(
            f"{location}: found {names(gguf, location)} and no model*.safetensors; expected one file",
            hint=f"name the one that is meant: base: {{path: {gguf[0]}}}",
        )
    if gguf:
        return gguf[0]
    raise refusal_without_weights(there, files, location, hint)


def refusal_without_weights(
    there: list[Path], files: list[Path], location: str, hint: str
) -> InputError | RefusedError:
    adapters = [file for file in there if file.name == "adapter_config.json"]
    if adapters:
        base = (read_json(adapters[0]) or {}).get("base_model_name_or_path") or "the model that it was trained on"
        return InputError(
            f"{location}: found a peft adapter (adapter_config.json), expected a whole model",
            hint=f"give base its own base, {base}, or merge it first: "
            "AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload().save_pretrained(NEW)",
        )
    own = sorted(
        {file.name for file in there if file.name.startswith("consolidated") and file.suffix == ".safetensors"}
    )
    if own:
        return InputError(
            f"{location}: found {own[0]}, the maker's own format, expected model*.safetensors of transformers",
            hint="take the repository that transformers reads, or convert it",
        )
    pickles = sorted(file.name for file in files if is_pickle(file))
    if pickles:
        return RefusedError(
            f"{location}: found only {', '.join(pickles[:3])}, and unpickling runs whatever code the file holds; "
            "expected model*.safetensors",
            hint="save the model once with save_pretrained(DIR, safe_serialization=True), where its maker is trusted",
        )
    return InputError(f"{location}: found no model*.safetensors and no *.gguf, expected one of them", hint=hint)


def refuse_pipeline(there: list[Path], location: str) -> None:
    """diffusers' model_index.json names the parts of a pipeline; which one is meant, nobody can know."""
    parts = [file.parent for file in there if file.name == "model_index.json"]
    if parts:
        models = sorted({file.parent for file in there if WEIGHTS.fullmatch(file.name) and is_model(file.parent)})
        raise InputError(
            f"{location}: found a diffusers pipeline (model_index.json), expected one model of transformers",
            hint=f"name the folder of its text model: base: {{path: {(models or [parts[0] / 'text_encoder'])[0]}}}",
        )


def topmost(folders: list[Path]) -> list[Path]:
    return [one for one in folders if not any(other in one.parents for other in folders)]


def is_model(folder: Path) -> bool:
    """transformers writes model_type into each config.json; a pooling or dense module's has none."""
    return "model_type" in (read_json(folder / "config.json") or {})


def named_transformer(there: list[Path], weighted: list[Path]) -> list[Path]:
    """Where modules.json of sentence-transformers says that its Transformer lies."""
    found = [
        listing.parent / str(module.get("path", ""))
        for listing in there
        if listing.name == "modules.json"
        for module in read_modules(listing)
        if str(module.get("type", "")).rpartition(".")[2] == "Transformer"
    ]
    return [folder for folder in found if folder in weighted]


def read_modules(listing: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(listing.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return []
    return [module for module in found if isinstance(module, dict)] if isinstance(found, list) else []


def is_pickle(file: PurePath) -> bool:
    return file.suffix in PICKLES and file.stem not in NOT_WEIGHTS and not file.stem.startswith("rng_state")


def weight_files(directory: Path) -> list[Path]:
    """What transformers loads: model.safetensors, else the shards that the index lists."""
    whole = directory / "model.safetensors"
    return [whole] if whole.exists() else [directory / name for name in listed_in_index(directory)]


def listed_in_index(directory: Path) -> list[str]:
    """Names of the shards; one that leads out of the folder is none."""
    found = (read_json(directory / INDEX) or {}).get("weight_map")
    names = set(found.values()) if isinstance(found, dict) else set()
    return sorted(name for name in names if isinstance(name, str) and PurePath(name).name == name)


def faults_of_weights(directory: Path) -> list[str]:
    """Why these weights are not one whole model; empty where they are."""
    weights = weight_files(directory)
    shards = sorted(file.name for file in directory.glob("*.safetensors") if WEIGHTS.fullmatch(file.name))
    surplus = sorted(set(shards) - {file.name for file in weights})
    if not weights:
        return [f"no {INDEX}, which says what lies in {', '.join(shards[:3])}"]
    listed = {*listed_in_index(directory), *(file.name for file in weights)}  # vLLM goes by the index, always
    faults = [f"no {name}, which {INDEX} lists" for name in sorted(listed) if not (directory / name).exists()]
    if surplus:
        faults.append(f"{', '.join(surplus[:3])} beside {weights[0].name}: two models, of which only one is meant")
    shapes: dict[str, dict[str, list[int]]] = {}
    for file in weights:
        try:
            shapes[file.name] = read_shapes(file) if file.exists() else {}
        except ValueError as error:
            faults.append(f"{file.name}: {error}")
    return faults or faults_of_index(directory, shapes)


def faults_of_index(directory: Path, shapes: dict[str, dict[str, list[int]]]) -> list[str]:
    """Each tensor in one shard, and in the one that the index names."""
    if list(shapes) == ["model.safetensors"]:
        return []
    listed: dict[str, str] = (read_json(directory / INDEX) or {}).get("weight_map", {})
    homes: dict[str, list[str]] = {}
    for name, tensors in shapes.items():
        for tensor in tensors:
            homes.setdefault(tensor, []).append(name)
    twice = [f"{tensor} in {' and '.join(found)}" for tensor, found in sorted(homes.items()) if len(found) > 1]
    absent = [f"no {tensor} in {name}" for tensor, name in sorted(listed.items()) if name not in homes.get(tensor, [])]
    return [*twice[:2], *(f"{line}, where {INDEX} has it" for line in absent[:2])]


def passed_by(files: Iterable[Path], source: Path) -> list[str]:
    """Weights and modules beside the chosen ones, as `2_Dense (a Dense module of sentence-transformers)`."""
    folder = source if source.suffix != ".gguf" else source.parent
    taken = {source, *(weight_files(folder) if folder == source else [])}
    roots = [file.parent for file in files if file.name == "modules.json"]
    modules = {
        root / str(module.get("path", "")): str(module.get("type", "")).rpartition(".")[2]
        for root in roots
        for module in read_modules(root / "modules.json")
    }
    said: dict[str, None] = {
        f"{path.name} (a {kind} module of sentence-transformers)": None
        for path, kind in modules.items()
        if kind != "Transformer" and path != folder
    }
    for file in sorted(files):
        if file in taken or not PASSED_BY.fullmatch(file.name) or not file.exists() or file.parent in modules:
            continue
        inside = file.parent == folder or folder not in file.parents
        said[file.name if inside else f"{file.relative_to(folder).parts[0]}/"] = None
    return list(said)


def names(paths: Iterable[Path], location: str) -> str:
    """Short where the place says the rest."""
    root = location.partition(": ")[2]
    return ", ".join(str(path).removeprefix(f"{root}/") for path in list(paths)[:8])
